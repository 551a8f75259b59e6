//! Questions to other shards, and the answers that come back by their numbers.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use gannet_wire::{ErrorBody, ErrorCode, ShardIndex};

use super::mail::{Answer, Ask, ShardMessage};
use super::requests::Shard;
use crate::io::local::Signal;
use crate::io::{Clock, Disk, Spawn};

/// What a shard has asked the others and was not answered yet.
#[derive(Default)]
pub(super) struct Questions {
    asked: RefCell<HashMap<u64, Rc<Question>>>,
    next: Cell<u64>,
}

#[derive(Default)]
struct Question {
    answer: RefCell<Option<Result<Answer, ErrorBody>>>,
    changed: Signal,
}

impl Questions {
    fn ask(&self) -> (u64, Rc<Question>) {
        let number = self.next.get();
        self.next.set(number + 1);
        let question = Rc::new(Question::default());
        self.asked.borrow_mut().insert(number, question.clone());
        (number, question)
    }

    /// The answer to the question of that number.
    pub(super) fn answered(&self, number: u64, answer: Result<Answer, ErrorBody>) {
        if let Some(question) = self.asked.borrow_mut().remove(&number) {
            *question.answer.borrow_mut() = Some(answer);
            question.changed.notify_all();
        }
    }
}

impl Question {
    async fn answer(&self) -> Result<Answer, ErrorBody> {
        loop {
            let seen = self.changed.version();
            if let Some(answer) = self.answer.borrow_mut().take() {
                return answer;
            }
            self.changed.changed_since(seen).await;
        }
    }
}

impl<D: Disk, C: Clock, S: Spawn> Shard<D, C, S> {
    /// Asks a shard, perhaps this one.
    pub(super) async fn ask(
        self: &Rc<Self>,
        to: ShardIndex,
        ask: Ask,
    ) -> Result<Answer, ErrorBody> {
        if to == self.index() {
            return Box::pin(self.answer(ask)).await;
        }
        let (number, question) = self.questions.ask();
        self.send(to, ShardMessage::Ask(self.index(), number, Box::new(ask)));
        question.answer().await
    }
}

pub(super) fn unexpected(answer: Result<Answer, ErrorBody>) -> ErrorBody {
    answer.err().unwrap_or_else(|| {
        ErrorBody::new(
            ErrorCode::Internal,
            "a shard gave an answer that does not fit the question",
        )
    })
}
