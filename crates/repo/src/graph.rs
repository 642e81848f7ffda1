//! The commit graph in memory, and the two questions that delivery asks of it: when did a commit enter the trunk, and which
//! release shipped it first. Both visit each commit once.
//!
//! Leaves out messages and people; [`crate::Repository::entries`] has those. Invariant: a parent that was not read (a shallow
//! clone's edge) is simply absent, never a wrong index.

use std::collections::HashMap;

use delivery::{CommitId, Timestamp};

use crate::log::Entry;

/// One commit of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Object name.
    pub id: CommitId,
    /// Author date.
    pub authored_at: Timestamp,
    /// Committer date.
    pub committed_at: Timestamp,
    /// First line of the message.
    pub subject: String,
    /// Number of parents that git names, also of those that were not read.
    pub parents_named: usize,
}

/// Commits and their parents.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    names: Vec<Vec<CommitId>>,
    parents: Vec<Vec<u32>>,
    index: HashMap<CommitId, u32>,
}

impl Graph {
    /// From entries in any order.
    pub fn new<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut graph = Self::default();
        for entry in entries {
            graph.push(entry);
        }
        graph.link();
        graph
    }

    /// Adds a commit. [`Graph::link`] must follow the last one.
    pub(crate) fn push(&mut self, entry: &Entry) {
        let Ok(position) = u32::try_from(self.nodes.len()) else { return };
        self.index.insert(entry.commit.id.clone(), position);
        self.nodes.push(Node {
            id: entry.commit.id.clone(),
            authored_at: entry.commit.authored_at,
            committed_at: entry.commit.committed_at,
            subject: entry.commit.subject.clone(),
            parents_named: entry.parents.len(),
        });
        self.names.push(entry.parents.clone());
    }

    /// Turns parents' names into positions.
    pub(crate) fn link(&mut self) {
        let index = &self.index;
        self.parents = std::mem::take(&mut self.names)
            .into_iter()
            .map(|names| names.iter().filter_map(|name| index.get(name).copied()).collect())
            .collect();
    }

    /// The commits, in the order they were given; positions in other answers refer to it.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A commit's position.
    pub fn position(&self, commit: &CommitId) -> Option<usize> {
        self.index.get(commit).map(|at| *at as usize)
    }

    /// The first parents from `tip` back to the beginning, newest first: the trunk's own commits.
    pub fn trunk(&self, tip: &CommitId) -> Vec<usize> {
        let mut trunk = Vec::new();
        let mut next = self.position(tip);
        while let Some(position) = next {
            trunk.push(position);
            // The first parent that git names; when that one was not read, the trunk ends here.
            let whole = self.parents[position].len() == self.nodes[position].parents_named;
            next = self.parents[position].first().filter(|_| whole).map(|at| *at as usize);
        }
        trunk
    }

    /// When each commit entered the trunk that ends in `tip`, by position: the committer date of the trunk's own commit (first
    /// parents only) that brought it in: itself when it was committed there directly, squashed or rebased, the merge
    /// commit when it came by a branch. `None` for commits that the trunk does not hold.
    pub fn merged_at(&self, tip: &CommitId) -> Vec<Option<Timestamp>> {
        let mut entered = vec![None; self.nodes.len()];
        for position in self.trunk(tip).into_iter().rev() {
            let at = self.nodes[position].committed_at;
            self.claim(position, &mut entered, at, &mut |_| {});
        }
        entered
    }

    /// For each tip in turn, the positions of the commits that it holds and no tip before it does. Unknown tips hold nothing.
    pub fn first_holding(&self, tips: &[CommitId]) -> Vec<Vec<usize>> {
        let mut taken = vec![None; self.nodes.len()];
        tips.iter()
            .map(|tip| {
                let mut held = Vec::new();
                if let Some(position) = self.position(tip) {
                    self.claim(position, &mut taken, (), &mut |at| held.push(at));
                }
                held
            })
            .collect()
    }

    /// For each tip in turn, whether it holds one of the tips before it. Unknown tips hold nothing.
    pub fn holding_earlier(&self, tips: &[CommitId]) -> Vec<bool> {
        let mut first: Vec<usize> = vec![usize::MAX; self.nodes.len()];
        let positions: Vec<Option<usize>> = tips.iter().map(|tip| self.position(tip)).collect();
        for (order, position) in positions.iter().enumerate() {
            if let Some(position) = position {
                first[*position] = first[*position].min(order);
            }
        }
        // The first of the tips that a commit is or holds: parents before children.
        let mut entered = vec![false; self.nodes.len()];
        let mut pending: Vec<(usize, bool)> = positions.iter().flatten().map(|at| (*at, false)).collect();
        while let Some((position, parents_done)) = pending.pop() {
            let parents = self.parents[position].iter().map(|at| *at as usize);
            if parents_done {
                first[position] = parents.map(|parent| first[parent]).fold(first[position], usize::min);
            } else if !entered[position] {
                entered[position] = true;
                pending.push((position, true));
                pending.extend(parents.map(|parent| (parent, false)));
            }
        }
        let holds = |(order, position): (usize, &Option<usize>)| position.is_some_and(|at| first[at] < order);
        positions.iter().enumerate().map(holds).collect()
    }

    /// Marks everything that `start` holds and nobody has claimed.
    fn claim<T: Copy>(&self, start: usize, owner: &mut [Option<T>], value: T, each: &mut dyn FnMut(usize)) {
        let mut pending = vec![start];
        while let Some(position) = pending.pop() {
            if owner[position].is_none() {
                owner[position] = Some(value);
                each(position);
                pending.extend(self.parents[position].iter().map(|at| *at as usize));
            }
        }
    }
}
