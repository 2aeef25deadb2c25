//! What each message of the server makes the agent do. Everything here is quick: work happens in the runner.

use flotilla_proto::{AgentMessage, CommandRun, JobAccepted, JobId, ScheduleSet, ServerMessage};

use super::Session;
use crate::runner::Submitted;

impl Session<'_> {
    pub(super) fn obey(&mut self, message: ServerMessage, id: &str) {
        match message {
            ServerMessage::CommandRun(order) => self.run_order(*order, id),
            ServerMessage::CommandCancel(order) => self.cancel(order.job_id, id),
            ServerMessage::ConfigUpdate(config) => self.parts.runner.set_limits(config.limits),
            ServerMessage::ScheduleSet(set) => self.take_schedules(set, id),
            ServerMessage::ScheduleFired(answer) => self.parts.schedule.fired(&answer),
            ServerMessage::Ack(ack) => {
                if self.parts.outbox.acked(&ack) {
                    self.parts.schedule.has_job(ack.job_id);
                    self.parts.runner.forget_leftover(ack.job_id);
                }
            }
            ServerMessage::Error(notice) => {
                tracing::warn!(code = notice.code, regarding = notice.regarding, "the server says: {}", notice.message);
                self.said = Some(notice.message);
            }
            ServerMessage::Heartbeat(_) => {}
            ServerMessage::Welcome(_) => tracing::debug!("a second welcome is ignored"),
            ServerMessage::Unknown(kind) => {
                tracing::info!(kind, "a message of a newer protocol is ignored; updating the agent would help");
            }
        }
    }

    fn run_order(&mut self, order: CommandRun, id: &str) {
        if self.parts.draining.is_cancelled() {
            self.complain("draining", "this agent is stopping and takes no orders: send it again later", id);
            return;
        }
        let job_id = order.job_id;
        // First: if the process ends in between, the server sends the order again, and the moment must not run by itself.
        self.parts.schedule.has_job(job_id);
        let submitted = self.parts.schedule.submit(order);
        tracing::info!(job.id = %job_id, known = submitted == Submitted::Known, "order taken");
        self.say(&AgentMessage::JobAccepted(JobAccepted { job_id }));
    }

    fn cancel(&mut self, job_id: JobId, id: &str) {
        if !self.parts.runner.cancel(job_id) && !self.parts.outbox.contains(job_id) {
            self.complain("unknown_job", "no such job runs on this agent", id);
        }
    }

    fn take_schedules(&mut self, set: ScheduleSet, id: &str) {
        match self.parts.schedule.receive(set) {
            Ok(answer) => self.say(&AgentMessage::ScheduleAck(answer)),
            Err(error) => {
                tracing::error!(%error, "the server's schedules were not taken; those held before stay in force");
                self.complain("schedules_not_stored", &error.to_string(), id);
            }
        }
    }
}
