//! Every page at the sizes and in the colours that people have; and the pictures of the README.
