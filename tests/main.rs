//! The one test binary of the workspace: linking LLVM once per binary is slow.

#[cfg(test)]
mod abi;
#[cfg(test)]
mod archive;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod debugging;
#[cfg(test)]
mod filetests;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod libraries;
#[cfg(test)]
mod models;
#[cfg(test)]
mod script;
#[cfg(test)]
mod tidy;
