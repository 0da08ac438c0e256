/// placeholder
#[derive(Debug)]
pub struct Reference;
/// placeholder
#[derive(Debug)]
pub struct ReferenceError;
