//! x
use super::CliError;
use clap::Args;
#[derive(Args)]
pub(super) struct DemoArgs {}
pub(super) async fn run(_: DemoArgs) -> Result<(), CliError> {
    Ok(())
}
