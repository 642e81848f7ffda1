//! Circles in a graph of needs.
//!
//! Depth-first with a stack of its own: linear in nodes and edges, and a chain of 20,000 tasks does not overflow anything.
//!
//! Invariant: a graph has a circle exactly when at least one is returned.

use crate::issue::Span;

/// Circles that are reported; more would say the same again.
const CIRCLES_MAX: usize = 10;

/// One circle.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Circle {
    /// Each needs the next, the last needs the first.
    pub(crate) nodes: Vec<usize>,
    /// Where the last one's need stands.
    pub(crate) closing: Span,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    Open,
    Done,
}

/// The circles that a depth-first walk meets, in the order of the nodes.
pub(crate) fn circles(edges: &[Vec<(usize, Span)>]) -> Vec<Circle> {
    let mut marks = vec![Mark::New; edges.len()];
    let mut found = Vec::new();
    // Node and how many of its edges were followed.
    let mut stack: Vec<(usize, usize)> = Vec::new();
    for start in 0..edges.len() {
        if marks[start] != Mark::New {
            continue;
        }
        marks[start] = Mark::Open;
        stack.push((start, 0));
        while let Some((node, followed)) = stack.last_mut() {
            let node = *node;
            let Some((next, span)) = edges[node].get(*followed) else {
                marks[node] = Mark::Done;
                stack.pop();
                continue;
            };
            *followed += 1;
            match marks[*next] {
                Mark::New => {
                    marks[*next] = Mark::Open;
                    stack.push((*next, 0));
                }
                Mark::Open => {
                    let from = stack.iter().position(|(open, _)| open == next).unwrap_or_default();
                    let nodes = stack[from..].iter().map(|(open, _)| *open).collect();
                    found.push(Circle { nodes, closing: span.clone() });
                    if found.len() == CIRCLES_MAX {
                        return found;
                    }
                }
                Mark::Done => {}
            }
        }
    }
    found
}
