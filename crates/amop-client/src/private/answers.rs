//! What opens the answers to a publisher.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use amop_auth::content::{AnswerKey, ContentKey};

/// Keys for answers that are remembered; beyond, the oldest is forgotten.
const MAX_PAIRS: usize = 20_000;

/// What opens answers, by the pair they name. A pair outlives the session that it was agreed with: the
/// subscriber may be verified through other sessions too, and answers under any of its pairs.
#[derive(Default)]
pub(super) struct Answers {
    by_pair: HashMap<[u8; 8], Opens>,
    oldest: VecDeque<[u8; 8]>,
}

struct Opens {
    /// The only content key to whose messages it opens the answers.
    content: Arc<ContentKey>,
    answers: Arc<AnswerKey>,
}

impl Answers {
    pub(super) fn add(&mut self, content: Arc<ContentKey>, answers: AnswerKey) {
        if self.oldest.len() >= MAX_PAIRS {
            self.oldest.pop_front().and_then(|oldest| self.by_pair.remove(&oldest));
        }
        let (pair, answers) = (answers.pair(), Arc::new(answers));
        self.oldest.push_back(pair);
        self.by_pair.insert(pair, Opens { content, answers });
    }

    pub(super) fn of(&self, content: &Arc<ContentKey>, pair: &[u8; 8]) -> Option<Arc<AnswerKey>> {
        let opens = self.by_pair.get(pair).filter(|opens| Arc::ptr_eq(&opens.content, content))?;
        Some(opens.answers.clone())
    }
}
