//! What the answer of a request takes, beside its body: it waits for room instead of being refused, because it is made
//! already, and charged.
//!
//! The rule it protects: answers wait for each other and never for ever. Of a user's answers that wait at their share, one may
//! go beyond it until it is whole, so that halves of answers do not keep each other from their ends; of all that wait for the
//! gateway's own bound, one may take what is kept for this.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use providers::{AnswerRoom, NoRoom};
use tokio::time::{Instant, timeout_at};

use super::{Books, KEPT_PART, LARGE, LITTLE_PART, Limits, Reserved, Seat, lock};

/// Beyond the bytes in flight, this part of them is there for one answer at a time.
const BEYOND_PART: usize = 4;

/// What one request takes of the bounds, for as long as its answer lasts.
#[derive(Debug)]
pub(crate) struct Share {
    _seat: Seat,
    body: Reserved,
    /// What is made of the body, until it is sent.
    made: Option<Reserved>,
    answer: OfAnswer,
    /// How long it has waited for room.
    waited: Duration,
}

/// What its answer takes.
#[derive(Debug)]
struct OfAnswer {
    bytes: usize,
    /// Of these, what is beyond the bytes in flight.
    beyond: usize,
    /// Whether all of it is there.
    is_whole: bool,
    /// Whether it is the one of its user's that may go beyond their share.
    leads_user: bool,
    /// Whether it is the one that may go beyond the bytes in flight.
    leads_all: bool,
}

/// Whether there was room.
enum Reached {
    Yes,
    NotYet,
    /// Waiting would change nothing.
    Never,
}

impl OfAnswer {
    const NOTHING: Self = Self { bytes: 0, beyond: 0, is_whole: false, leads_user: false, leads_all: false };
}

impl Share {
    pub(crate) const fn new(seat: Seat, body: Reserved) -> Self {
        Self { _seat: seat, body, made: None, answer: OfAnswer::NOTHING, waited: Duration::ZERO }
    }

    /// What its body takes.
    pub(crate) const fn body(&self) -> &Reserved {
        &self.body
    }

    /// What is made of its body takes this.
    pub(crate) fn make(&mut self, made: Reserved) {
        self.made = Some(made);
    }

    /// What was made of its body is there no more.
    pub(crate) fn leave_made(&mut self) {
        self.made = None;
    }

    /// Its body is there no more. What a small one took stays counted until all is over.
    pub(crate) fn leave_body(&mut self) {
        if self.body.bytes > LARGE {
            self.body.give_back();
        }
    }

    /// Takes room up to so many bytes for the answer, if there is some.
    fn try_reach(&mut self, bytes: usize) -> Reached {
        let answer = &mut self.answer;
        let more = bytes.saturating_sub(answer.bytes);
        let Limits { in_flight, per_user, .. } = self.body.books.limits;
        let Some(user) = &self.body.user else { return Reached::Never };
        let mut taken = lock(&self.body.books);
        let taken = &mut *taken;
        let Some(of_user) = taken.users.get_mut(user) else { return Reached::Never };
        let (theirs, little) = (of_user.bytes.saturating_add(more), in_flight / LITTLE_PART);
        let made = self.made.as_ref().map_or(0, |made| made.bytes);
        let others = of_user.bytes.saturating_sub(self.body.bytes + made + answer.bytes);
        let keeps_share = theirs <= per_user || others <= little;
        // Halves of other answers are within the share, and may be all of it.
        let alone = of_user.whole.saturating_add(answer.bytes).saturating_add(more);
        let may_lead = (answer.leads_user || !of_user.is_led)
            && (others <= little || alone <= per_user.saturating_mul(2));
        let most = if theirs > little { in_flight - in_flight / KEPT_PART } else { in_flight };
        let within = more.min(most.saturating_sub(taken.bytes));
        let fits = within == more;
        let beyond = taken.beyond.saturating_add(more - within);
        let may_lead_all = (answer.leads_all || !taken.is_led) && beyond <= in_flight / BEYOND_PART;
        match (keeps_share, fits) {
            (true, true) => {}
            (false, true) if may_lead => {}
            // Who leads all leads its user's too: so none that leads waits for another that does.
            (_, false) if may_lead && may_lead_all => {}
            // Nobody else has anything that could be given back.
            _ if taken.bytes + taken.beyond == self.body.bytes + made + answer.bytes => {
                return Reached::Never;
            }
            _ => return Reached::NotYet,
        }
        taken.bytes += within;
        if !fits {
            (taken.beyond, taken.is_led, answer.leads_all) = (beyond, true, true);
            answer.beyond += more - within;
        }
        if !(keeps_share && fits) {
            (of_user.is_led, answer.leads_user) = (true, true);
        }
        of_user.bytes = theirs;
        answer.bytes += more;
        Reached::Yes
    }

    async fn wait(&mut self, bytes: usize) -> Result<(), NoRoom> {
        match self.try_reach(bytes) {
            Reached::Yes => return Ok(()),
            Reached::Never => return Err(NoRoom),
            Reached::NotYet => {}
        }
        let books = Arc::clone(&self.body.books);
        let patience = books.limits.patience;
        let begun = Instant::now();
        let deadline = begun + patience.saturating_sub(self.waited);
        let _waiting = Waiting::new(&books);
        loop {
            let mut freed = pin!(books.freed.notified());
            freed.as_mut().enable();
            match self.try_reach(bytes) {
                Reached::Yes => {
                    self.waited += begun.elapsed();
                    return Ok(());
                }
                Reached::Never => return Err(NoRoom),
                Reached::NotYet => {}
            }
            if timeout_at(deadline, freed).await.is_err() {
                return Err(NoRoom);
            }
        }
    }
}

impl AnswerRoom for Share {
    fn reach(&mut self, bytes: usize) -> Pin<Box<dyn Future<Output = Result<(), NoRoom>> + Send + '_>> {
        Box::pin(self.wait(bytes))
    }

    fn keep(&mut self, bytes: usize) {
        let answer = &mut self.answer;
        if answer.bytes == 0 {
            return;
        }
        let back = answer.bytes.saturating_sub(bytes);
        let of_beyond = back.min(answer.beyond);
        let mut taken = lock(&self.body.books);
        taken.beyond -= of_beyond;
        taken.bytes -= back - of_beyond;
        if answer.leads_all {
            taken.is_led = false;
        }
        if let Some(user) = &self.body.user {
            taken.of(user, |of_user| {
                of_user.bytes -= back;
                of_user.is_led &= !answer.leads_user;
                of_user.whole -= if answer.is_whole { answer.bytes } else { 0 };
                of_user.whole += answer.bytes - back;
            });
        }
        *answer =
            OfAnswer { bytes: answer.bytes - back, beyond: answer.beyond - of_beyond, ..OfAnswer::NOTHING };
        self.body.books.tell_waiting(&taken);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.keep(0);
    }
}

/// One that waits for what others give back, until dropped.
struct Waiting<'a>(&'a Books);

impl<'a> Waiting<'a> {
    fn new(books: &'a Books) -> Self {
        lock(books).waiting += 1;
        Self(books)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(self.0).waiting -= 1;
    }
}
