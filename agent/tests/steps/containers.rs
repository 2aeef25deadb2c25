//! Steps within a container.
