//! What each message of the server makes the agent do. Everything here is quick: work happens in the runner.

use flotilla_proto::{
    AgentMessage, CommandRun, JobAccepted, JobId, ScheduleAck, ScheduleRejection, ScheduleSet, ServerMessage,
};

use super::Session;
use crate::runner::Submitted;

impl Session<'_> {
    pub(super) fn obey(&mut self, message: ServerMessage, id: &str) {
        match message {
            ServerMessage::CommandRun(order) => self.run_order(*order, id),
            ServerMessage::CommandCancel(order) => self.cancel(order.job_id, id),
            ServerMessage::ConfigUpdate(config) => self.parts.runner.set_limits(config.limits),
            ServerMessage::ScheduleSet(set) => self.decline(set),
            ServerMessage::Ack(ack) => {
                if self.parts.outbox.acked(&ack) {
                    self.parts.runner.forget_leftover(ack.job_id);
                }
            }
            ServerMessage::Error(notice) => {
                tracing::warn!(code = notice.code, regarding = notice.regarding, "the server says: {}", notice.message);
                self.said = Some(notice.message);
            }
            ServerMessage::Heartbeat(_) | ServerMessage::ScheduleFired(_) => {}
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
        let outbox = &self.parts.outbox;
        let fresh = !outbox.contains(job_id);
        let sink = outbox.open(job_id);
        let submitted = self.parts.runner.submit(order, sink);
        if submitted == Submitted::Known && fresh {
            // It has run and its end was delivered: nothing to report a second time.
            outbox.forget(job_id);
        }
        tracing::info!(job.id = %job_id, known = submitted == Submitted::Known, "order taken");
        self.say(&AgentMessage::JobAccepted(JobAccepted { job_id }));
    }

    fn cancel(&mut self, job_id: JobId, id: &str) {
        if !self.parts.runner.cancel(job_id) && !self.parts.outbox.contains(job_id) {
            self.complain("unknown_job", "no such job runs on this agent", id);
        }
    }

    fn decline(&mut self, set: ScheduleSet) {
        let reason = "this agent does not run schedules yet";
        let decline = |schedule_id| ScheduleRejection { schedule_id, reason: reason.to_owned() };
        let rejected = set.entries.into_iter().map(|entry| decline(entry.schedule_id)).collect();
        self.say(&AgentMessage::ScheduleAck(ScheduleAck { version: set.version, rejected }));
    }
}
