//! The one test binary of the workspace: linking LLVM once per binary is slow.

#[cfg(test)]
mod archive;
#[cfg(test)]
mod script;
