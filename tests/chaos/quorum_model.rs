//! Row 42: the quorum's protocol in every order of its events: votes and releases that are late or never come,
//! members that forget, clients that wait too long, refreshes, and fencing tokens that are levelled. What is
//! decided is decided by the store's own rules, compiled a second time.
//!
//! Assumed, as declared: all clocks run at one rate, and no lease is longer than the time that a member which
//! has come up does not vote.

#[path = "../../core/src/store/quorum/rules.rs"]
mod rules;
#[path = "quorum_model/state.rs"]
mod state;

use rules::{Draw, Need, SPENT, Said};
use state::{
    CLIENTS, Client, MEMBERS, Member, Phase, Round, Start, State, Step, TOKENS, Token, Wire,
};
use stateright::{Checker, Model, Property};
use std::process::ExitCode;
use std::time::Instant;
use synlock_tests::process::is_full_load;
use synlock_tests::torture::Verdict;

/// How many votes a round asks for again until it is given up.
const LIFTS: u8 = 4;

/// What is tried.
#[derive(Clone, Debug)]
struct Quorum {
    /// How often each client may begin.
    tries: Vec<u8>,
    /// In ticks. A member votes as long after it has come up as a lease lasts.
    ttl: u8,
    crashes: u8,
    refreshes: u8,
    /// Whether clients also stand in line at the first member.
    lines: bool,
    fencing: bool,
    /// Whether members are down now and then.
    refusals: bool,
}

impl Quorum {
    fn need() -> Need {
        Need::majority(MEMBERS)
    }

    /// The client's token.
    fn token(state: &State, client: usize) -> usize {
        client * TOKENS + usize::from(state.clients[client].token)
    }

    fn ask(state: &mut State, client: usize, places: std::ops::Range<usize>) {
        let token = Self::token(state, client);
        for place in places {
            state.votes[token][place] = Wire::Asked;
        }
    }

    /// A member is asked for its lock.
    fn attempt(&self, state: &mut State, token: Token, place: usize, block: u8) -> bool {
        let member = &mut state.members[place];
        if member.holder.is_none() {
            member.fence += block;
            member.holder = Some(token);
        }
        if member.holder == Some(token) {
            member.left = self.ttl;
        }
        member.holder == Some(token)
    }

    /// The round ends without a grant.
    fn give_up(state: &mut State, client: usize, said: &[Option<Said>; MEMBERS]) {
        let token = Self::token(state, client);
        for (place, said) in said.iter().enumerate() {
            if rules::gives_back(*said, state.votes[token][place] != Wire::None) {
                state.releases[token][place] = true;
            }
        }
        Self::end(state, client, SPENT);
    }

    fn end(state: &mut State, client: usize, spent: bool) {
        let token = Self::token(state, client);
        for vote in &mut state.votes[token] {
            if let Wire::Told(..) = vote {
                *vote = Wire::None;
            }
        }
        let client = &mut state.clients[client];
        client.phase = Phase::Idle;
        client.refresh = None;
        client.token += u8::from(spent);
    }

    /// What the answers so far come to.
    fn advance(&self, state: &mut State, client: usize) {
        let Phase::Asking(round) = state.clients[client].phase else {
            return;
        };
        let said = || round.said.iter().flatten().copied();
        let left = MEMBERS - said().count();
        if left > 0 && !Self::need().is_settled(said(), left) {
            return;
        }
        let granted: Vec<usize> = (0..MEMBERS)
            .filter(|place| round.said[*place] == Some(Said::Granted))
            .collect();
        if !Self::need().is_met(granted.len()) {
            return Self::give_up(state, client, &round.said);
        }
        if !self.fencing {
            return self.hold(state, client, &round, 0);
        }
        self.level_or_hold(state, client, round, 0);
    }

    fn level_or_hold(&self, state: &mut State, client: usize, round: Round, lifts: u8) {
        match Self::behind(&round) {
            (highest, None) => self.hold(state, client, &round, highest),
            _ if lifts == LIFTS => Self::give_up(state, client, &round.said),
            _ => {
                state.clients[client].phase = Phase::Levelling {
                    round,
                    released: false,
                    lifts,
                };
            }
        }
    }

    /// The token of a round, and the member that is to be levelled next.
    fn behind(round: &Round) -> (u8, Option<usize>) {
        let places = (0..MEMBERS).filter(|place| round.said[*place] == Some(Said::Granted));
        let places: Vec<usize> = places.collect();
        let draws: Vec<Draw> = places.iter().map(|place| round.draw(*place)).collect();
        let (highest, behind) = rules::level(&draws, 1, Self::need().need);
        (highest as u8, behind.map(|at| places[at]))
    }

    fn hold(&self, state: &mut State, client: usize, round: &Round, fence: u8) {
        let votes = (0..MEMBERS).filter(|place| round.said[*place] == Some(Said::Granted));
        let left = rules::nth(
            votes.map(|place| Some(round.left[place])),
            Self::need().need,
        );
        match left {
            Some(left) if left > 0 => {
                state.clients[client].phase = Phase::Held { left };
                if self.fencing {
                    state.went_back |= fence <= state.top;
                    state.top = state.top.max(fence);
                }
            }
            // It is too late.
            _ => Self::give_up(state, client, &round.said),
        }
    }

    /// One half of the next question of a levelling.
    fn level(&self, state: &mut State, client: usize, answers: bool) {
        let Phase::Levelling {
            mut round,
            released,
            lifts,
        } = state.clients[client].phase
        else {
            return;
        };
        let (highest, Some(place)) = Self::behind(&round) else {
            return;
        };
        if !answers {
            return Self::give_up(state, client, &round.said);
        }
        let token = Self::token(state, client) as Token;
        if !released {
            let member = &mut state.members[place];
            member.holder = member.holder.filter(|holder| *holder != token);
            state.clients[client].phase = Phase::Levelling {
                round,
                released: true,
                lifts,
            };
            return;
        }
        let block = rules::lift(round.draw(place), highest.into(), 1) as u8;
        // Its age is asked for again: it may have forgotten who voted there before.
        if !self.attempt(state, token, place, block) {
            round.said[place] = Some(Said::Busy);
        } else if rules::is_cold(state.members[place].age, self.ttl) {
            round.said[place] = Some(Said::Cold);
        } else {
            round.last[place] = state.members[place].fence;
            round.fence[place] = round.last[place] + 1 - block;
            round.left[place] = self.ttl;
        }
        let granted = (0..MEMBERS).filter(|place| round.said[*place] == Some(Said::Granted));
        if !Self::need().is_met(granted.count()) {
            return Self::give_up(state, client, &round.said);
        }
        self.level_or_hold(state, client, round, lifts + 1);
    }

    /// An answer to a client that stands in line at the first member, or is asking.
    fn heard(&self, state: &mut State, client: usize, place: usize, said: Said, fence: u8) {
        match &mut state.clients[client].phase {
            Phase::First { left } => {
                let left = *left;
                let mut round = Round {
                    left: [self.ttl; MEMBERS],
                    said: [None; MEMBERS],
                    fence: [0; MEMBERS],
                    last: [0; MEMBERS],
                };
                (round.last[0], round.left[0]) = (fence, left);
                (round.said[0], round.fence[0]) = (Some(said), fence);
                match said {
                    Said::Granted => {
                        state.clients[client].phase = Phase::Asking(round);
                        Self::ask(state, client, 1..MEMBERS);
                    }
                    // Nothing is under way: it asks again by and by.
                    Said::Busy => Self::end(state, client, false),
                    _ => Self::give_up(state, client, &round.said),
                }
            }
            Phase::Asking(round) => {
                round.said[place] = Some(said);
                round.fence[place] = fence;
                round.last[place] = fence;
                self.advance(state, client);
            }
            _ => {}
        }
    }

    /// Whether the client waits for this member's vote.
    fn waits(state: &State, client: usize, place: usize) -> bool {
        match &state.clients[client].phase {
            Phase::First { .. } => place == 0,
            Phase::Asking(round) => round.said[place].is_none(),
            _ => false,
        }
    }

    fn refreshed(state: &mut State, client: usize) {
        let Some((left, answers)) = state.clients[client].refresh else {
            return;
        };
        let count = |done| {
            let said = |answer: &&Option<bool>| **answer == Some(done);
            answers.iter().filter(said).count()
        };
        if Self::need().to_extend().is_met(count(true)) {
            if let Phase::Held { left: old } = &mut state.clients[client].phase {
                *old = left.max(*old);
            }
            state.clients[client].refresh = None;
        } else if Self::need().is_short(count(false)) {
            let token = Self::token(state, client);
            state.releases[token] = [true; MEMBERS];
            Self::end(state, client, true);
        }
    }

    fn tick(&self, state: &mut State) {
        for member in &mut state.members {
            member.left = member.left.saturating_sub(1);
            member.age = self.ttl.min(member.age + 1);
        }
        for vote in state.votes.iter_mut().flatten() {
            if let Wire::Told(age, _) = vote {
                *age = self.ttl.min(*age + 1);
            }
        }
        for client in &mut state.clients {
            if let Some((left, _)) = &mut client.refresh {
                *left = left.saturating_sub(1);
            }
            match &mut client.phase {
                Phase::Idle => {}
                Phase::First { left } | Phase::Held { left } => *left = left.saturating_sub(1),
                Phase::Asking(round) | Phase::Levelling { round, .. } => {
                    round.left = round.left.map(|left| left.saturating_sub(1));
                }
            }
        }
    }

    /// Forgets what makes no difference any more, and puts members that are alike in one order.
    fn tidy(&self, state: &mut State) {
        for member in &mut state.members {
            if member.left == 0 {
                member.holder = None;
            }
            if member.holder.is_none() {
                member.left = 0;
            }
        }
        for (number, client) in state.clients.iter().enumerate() {
            // Without it a token comes back, and with it what is said of it.
            let dead = if SPENT { usize::from(client.token) } else { 0 };
            for token in number * TOKENS..number * TOKENS + dead {
                for (place, member) in state.members.iter().enumerate() {
                    if state.votes[token][place] == Wire::None
                        && member.holder != Some(token as Token)
                    {
                        state.releases[token][place] = false;
                    }
                }
            }
        }
        // The one where they stand in line is not like the others.
        let first = usize::from(self.lines);
        let mut columns: [u128; MEMBERS] = std::array::from_fn(|place| state.column(place));
        for end in (first + 1..MEMBERS).rev() {
            for place in first..end {
                if columns[place] > columns[place + 1] {
                    columns.swap(place, place + 1);
                    Self::swap(state, place);
                }
            }
        }
    }

    /// Swaps a member and the next.
    fn swap(state: &mut State, place: usize) {
        state.members.swap(place, place + 1);
        for votes in &mut state.votes {
            votes.swap(place, place + 1);
        }
        for releases in &mut state.releases {
            releases.swap(place, place + 1);
        }
        for client in &mut state.clients {
            if let Phase::Asking(round) | Phase::Levelling { round, .. } = &mut client.phase {
                round.left.swap(place, place + 1);
                round.said.swap(place, place + 1);
                round.fence.swap(place, place + 1);
                round.last.swap(place, place + 1);
            }
            if let Some((_, answers)) = &mut client.refresh {
                answers.swap(place, place + 1);
            }
        }
    }

    fn holders(state: &State) -> usize {
        let holds = |client: &&Client| matches!(client.phase, Phase::Held { left } if left > 0);
        state.clients.iter().filter(holds).count()
    }
}

impl Model for Quorum {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let member = Member {
            holder: None,
            left: 0,
            age: self.ttl,
            fence: 0,
        };
        let client = Client {
            phase: Phase::Idle,
            token: 0,
            tries: 0,
            refresh: None,
            refreshes: 0,
        };
        // They have counted apart.
        let apart = if self.fencing { vec![1, 2] } else { vec![0] };
        let begin = |fence| {
            let mut members = [member; MEMBERS];
            members[0].fence = fence;
            State {
                members,
                clients: vec![client; self.tries.len()],
                votes: [[Wire::None; MEMBERS]; CLIENTS * TOKENS],
                releases: [[false; MEMBERS]; CLIENTS * TOKENS],
                crashes: 0,
                top: 0,
                went_back: false,
            }
        };
        apart.into_iter().map(begin).collect()
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        steps.push(Step::Tick);
        for (number, client) in state.clients.iter().enumerate() {
            match client.phase {
                Phase::Idle
                    if client.tries < self.tries[number] && usize::from(client.token) < TOKENS =>
                {
                    steps.push(Step::Begin(number, Start::AtAll));
                    if self.lines {
                        steps.push(Step::Begin(number, Start::InLine));
                        steps.push(Step::Begin(number, Start::PassingBy));
                    }
                }
                Phase::Held { .. } => {
                    steps.push(Step::Release(number));
                    // Also when it is late: then the members decide.
                    if client.refresh.is_none() && client.refreshes < self.refreshes {
                        steps.push(Step::Refresh(number));
                    }
                }
                Phase::First { .. } | Phase::Asking(_) => steps.push(Step::Despair(number)),
                Phase::Levelling { .. } => {
                    steps.extend([Step::Level(number, true), Step::Level(number, false)]);
                }
                Phase::Idle => {}
            }
            for place in 0..MEMBERS {
                if usize::from(client.token) < TOKENS && Self::waits(state, number, place) {
                    match state.votes[Self::token(state, number)][place] {
                        Wire::Told(..) => steps.push(Step::Tell(number, place)),
                        Wire::Asked if self.refusals => steps.push(Step::Refuse(number, place)),
                        _ => {}
                    }
                }
                match client.refresh {
                    Some((_, answers)) if answers[place].is_none() => {
                        steps.push(Step::AskAgain(number, place));
                    }
                    _ => {}
                }
            }
        }
        for token in 0..self.tries.len() * TOKENS {
            for place in 0..MEMBERS {
                if state.votes[token][place] == Wire::Asked {
                    let client = token / TOKENS;
                    let is_current = Self::token(state, client) == token;
                    steps.push(Step::Ask(token as Token, place, true));
                    if is_current && Self::waits(state, client, place) {
                        steps.push(Step::Ask(token as Token, place, false));
                    }
                }
                let holds = state.members[place].holder == Some(token as Token);
                if state.releases[token][place] && holds {
                    steps.push(Step::Free(token as Token, place));
                }
            }
        }
        if state.crashes < self.crashes {
            steps.extend((0..MEMBERS).map(Step::Forget));
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Tick => self.tick(&mut state),
            Step::Begin(client, start) => {
                state.clients[client].tries += 1;
                let mut round = Round {
                    left: [self.ttl; MEMBERS],
                    said: [None; MEMBERS],
                    fence: [0; MEMBERS],
                    last: [0; MEMBERS],
                };
                let places = match start {
                    Start::AtAll => 0..MEMBERS,
                    Start::InLine => 0..1,
                    Start::PassingBy => {
                        // What it may have there by the line is given back.
                        let token = Self::token(&state, client);
                        state.releases[token][0] = true;
                        round.said[0] = Some(Said::Busy);
                        1..MEMBERS
                    }
                };
                state.clients[client].phase = if start == Start::InLine {
                    Phase::First { left: self.ttl }
                } else {
                    Phase::Asking(round)
                };
                Self::ask(&mut state, client, places);
            }
            Step::Ask(token, place, lost) => {
                let granted = self.attempt(&mut state, token, place, 1);
                let Member { age, fence, .. } = state.members[place];
                let client = usize::from(token) / TOKENS;
                let is_current = Self::token(&state, client) == usize::from(token);
                state.votes[usize::from(token)][place] = Wire::None;
                if !lost && is_current && Self::waits(&state, client, place) {
                    if !granted {
                        self.heard(&mut state, client, place, Said::Busy, 0);
                    } else if rules::is_cold(age, self.ttl) {
                        state.votes[usize::from(token)][place] = Wire::Told(age, fence);
                    } else {
                        self.heard(&mut state, client, place, Said::Granted, fence);
                    }
                }
            }
            Step::Tell(client, place) => {
                let token = Self::token(&state, client);
                let Wire::Told(age, fence) = state.votes[token][place] else {
                    return None;
                };
                state.votes[token][place] = Wire::None;
                let said = if rules::is_cold(age, self.ttl) {
                    Said::Cold
                } else {
                    Said::Granted
                };
                self.heard(&mut state, client, place, said, fence);
            }
            Step::Refuse(client, place) => {
                let token = Self::token(&state, client);
                state.votes[token][place] = Wire::None;
                self.heard(&mut state, client, place, Said::Down, 0);
            }
            Step::Despair(client) => {
                for place in 0..MEMBERS {
                    if Self::waits(&state, client, place) {
                        self.heard(&mut state, client, place, Said::Unsure, 0);
                    }
                }
            }
            Step::Level(client, answers) => self.level(&mut state, client, answers),
            Step::Refresh(client) => {
                state.clients[client].refreshes += 1;
                state.clients[client].refresh = Some((self.ttl, [None; MEMBERS]));
            }
            Step::AskAgain(client, place) => {
                let token = Self::token(&state, client) as Token;
                let member = &mut state.members[place];
                let done = member.holder == Some(token);
                if done {
                    member.left = self.ttl;
                }
                if let Some((_, answers)) = &mut state.clients[client].refresh {
                    answers[place] = Some(done);
                }
                Self::refreshed(&mut state, client);
            }
            Step::Release(client) => {
                let token = Self::token(&state, client);
                state.releases[token] = [true; MEMBERS];
                Self::end(&mut state, client, true);
            }
            Step::Free(token, place) => {
                let member = &mut state.members[place];
                member.holder = member.holder.filter(|holder| *holder != token);
            }
            Step::Forget(place) => {
                state.crashes += 1;
                let member = &mut state.members[place];
                (member.holder, member.left, member.age) = (None, 0, 0);
            }
        }
        self.tidy(&mut state);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one holds", |_, state| Self::holders(state) <= 1),
            Property::always("tokens grow", |_, state: &State| !state.went_back),
            Property::sometimes("somebody holds", |_, state| Self::holders(state) == 1),
            Property::sometimes("another one holds after it", |_, state| {
                let ended = |client: &Client| client.token > 0 && client.phase == Phase::Idle;
                Self::holders(state) == 1 && state.clients.iter().any(ended)
            }),
        ]
    }
}

/// All that can happen, by these bounds.
fn check(verdict: &mut Verdict, what: &str, model: Quorum) {
    let start = Instant::now();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let checked = model.checker().threads(threads).spawn_bfs().join();
    eprintln!(
        "{what}: {} states, {} deep, {:.1?}",
        checked.unique_state_count(),
        checked.max_depth(),
        start.elapsed()
    );
    for property in checked.model().properties() {
        let found = checked.discovery(property.name);
        let is_example = property.expectation == stateright::Expectation::Sometimes;
        if let Some(path) = found.as_ref().filter(|_| !is_example) {
            eprintln!("{:#?}", path.clone().into_actions());
        }
        verdict.claim(
            found.is_some() == is_example,
            &format!("{what}: {}", property.name),
            found.map_or(0, |path| path.into_actions().len()),
        );
    }
}

/// The row.
pub fn run() -> ExitCode {
    let mut verdict = Verdict::default();
    let once = Quorum {
        tries: vec![1, 1],
        ttl: 1,
        crashes: 0,
        refreshes: 0,
        lines: false,
        fencing: false,
        refusals: false,
    };
    // A second try matters where a first one leaves something behind.
    let again = Quorum {
        tries: vec![2, 1],
        ..once.clone()
    };
    let mut tried = vec![
        ("late votes", again.clone()),
        (
            "members that forget",
            Quorum {
                crashes: 1,
                refusals: true,
                ..once.clone()
            },
        ),
        (
            "refreshes",
            Quorum {
                refreshes: 1,
                ..once.clone()
            },
        ),
        (
            "a line at the first",
            Quorum {
                lines: true,
                ..once.clone()
            },
        ),
        (
            "tokens",
            Quorum {
                fencing: true,
                ..once.clone()
            },
        ),
    ];
    tried.push((
        "tokens of members that forget",
        Quorum {
            fencing: true,
            crashes: 1,
            ..once.clone()
        },
    ));
    if is_full_load() {
        tried.extend([
            (
                "three clients",
                Quorum {
                    tries: vec![1, 1, 1],
                    ..once.clone()
                },
            ),
            (
                "two members that forget",
                Quorum {
                    crashes: 2,
                    ttl: 2,
                    ..once.clone()
                },
            ),
            (
                "lines, tried again",
                Quorum {
                    lines: true,
                    ..again.clone()
                },
            ),
            (
                "longer refreshes",
                Quorum {
                    refreshes: 1,
                    ttl: 2,
                    ..once.clone()
                },
            ),
        ]);
    }
    for (what, model) in tried {
        check(&mut verdict, what, model);
    }
    verdict.finish()
}
