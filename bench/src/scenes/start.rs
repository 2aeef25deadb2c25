//! From exec to listening, on a folder that an earlier run made ready; the time of the bare process beside it.

use tokio::time::Instant;

use crate::{
    child::Child,
    floors::{self, Listening},
    measure::median,
    scenes::Plan,
    server::{Server, Wanted},
    table::{Goal, Row, Table},
};

pub(crate) async fn run(plan: Plan, table: &mut Table) -> anyhow::Result<()> {
    let mut server = Server::start(Wanted { hosts: 10, tls: false })?;
    let (mut product, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds.max(5) {
        let start = Instant::now();
        let child = Child::start::<Listening>(&floors::arguments("idle"))?;
        floor.push(start.elapsed().as_secs_f64() * 1e3);
        drop(child);
        let start = Instant::now();
        server = server.restart()?;
        product.push(start.elapsed().as_secs_f64() * 1e3);
    }
    table.add(Row {
        name: "cold start to listening, beside a bare listener".to_owned(),
        product: median(&product),
        floor: Some(median(&floor)),
        unit: "ms",
        goal: Goal::AtMost(100.0),
    });
    Ok(())
}
