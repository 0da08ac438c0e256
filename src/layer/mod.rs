//! tree ⇄ tar
