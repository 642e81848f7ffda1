//! The icons: small SVG shapes that take the text's colour. They repeat what the words beside them say, so they are hidden
//! from readers of text.

/// The icon of that name, as HTML.
pub(crate) fn icon(name: &str) -> &'static str {
    macro_rules! shape {
        ($path:literal) => {
            concat!(
                r#"<svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">"#,
                $path,
                "</svg>"
            )
        };
    }
    match name {
        "good" => shape!(r#"<circle cx="8" cy="8" r="6.25"/><path d="M5.2 8.3l2 2 3.7-4.3"/>"#),
        "bad" => shape!(
            r#"<path d="M5.4 1.75h5.2l3.65 3.65v5.2l-3.65 3.65H5.4L1.75 10.6V5.4z"/><path d="M8 4.8v3.8M8 11v.2"/>"#
        ),
        "back" => shape!(r#"<path d="M6 3L2.5 6.3 6 9.6"/><path d="M2.8 6.3h6.4a4 4 0 0 1 0 8H6"/>"#),
        "wait" => shape!(r#"<circle cx="8" cy="8" r="6.25"/><path d="M8 4.4V8l2.4 1.7"/>"#),
        "going" => shape!(r#"<path d="M2 12.5h3.2V9h3.6V5.5h3.6V2.5"/><path d="M9.9 4.6l2.5-2.5 2.5 2.5"/>"#),
        "person" => shape!(r#"<circle cx="8" cy="5" r="2.75"/><path d="M2.5 14a5.5 5.5 0 0 1 11 0"/>"#),
        "look" => shape!(
            r#"<path d="M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8z"/><circle cx="8" cy="8" r="2"/>"#
        ),
        "release" => shape!(
            r#"<path d="M8 1.75l5.75 3v6.5L8 14.25l-5.75-3v-6.5z"/><path d="M2.4 4.9L8 7.8l5.6-2.9M8 7.8v6.3"/>"#
        ),
        _ => shape!(r#"<circle cx="8" cy="8" r="2"/>"#),
    }
}
