//! How processes see a branch.

use serde::{Deserialize, Serialize};

use super::PathBytes;

/// What processes of a branch work on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViewKind {
    /// The daemon's mount.
    #[default]
    Fuse,
    /// A kernel overlayfs of their own, which is taken into the branch.
    Native,
}

impl ViewKind {
    pub(crate) fn is_fuse(&self) -> bool {
        *self == ViewKind::Fuse
    }
}

/// Who mounts a native view: it decides which extended attributes overlayfs uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mounter {
    /// Root, in the host's user namespace.
    Root,
    /// Anybody, in a user namespace of their own.
    UserNamespace,
}

/// What a native view is mounted from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeView {
    /// The layer below: the base.
    pub lower: PathBytes,
    /// Takes the changes.
    pub upper: PathBytes,
    /// What overlayfs works in.
    pub work: PathBytes,
}
