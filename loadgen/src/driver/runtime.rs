//! The runtime of asynchronous libraries.

use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use crate::worker::port::PortError;

/// One for a run, with a thread a core: all of them are the generator's, as the library's own would be.
pub(super) fn start() -> Result<Arc<Runtime>, PortError> {
    let runtime = Builder::new_multi_thread()
        .thread_name("driver")
        .enable_all()
        .build()
        .map_err(|error| PortError(format!("starting the driver's runtime: {error}")))?;
    Ok(Arc::new(runtime))
}
