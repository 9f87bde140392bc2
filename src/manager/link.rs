//! What connects a client and a server.

pub(super) use ipc_pipe::Link;
