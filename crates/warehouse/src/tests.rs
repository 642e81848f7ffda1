//! The figures against hand-made histories, against laws, and against real git.
