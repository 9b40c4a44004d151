//! Noise that looks almost right: seeds with a few changes.

use synlock_tests::torture::Random;

const LONGEST: usize = 128 * 1024;
const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "1",
    "-0",
    "+1",
    "00",
    "255",
    "65535",
    "65536",
    "1048576",
    "1048577",
    "16777216",
    "16777217",
    "2147483647",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "99999999999999999999999",
];

/// Makes inputs for ever.
pub struct Mutator {
    random: Random,
    seeds: Vec<Vec<u8>>,
    words: &'static [&'static [u8]],
}

impl Mutator {
    /// From these seeds, and words of the format's own.
    pub fn new(seed: u64, seeds: Vec<Vec<u8>>, words: &'static [&'static [u8]]) -> Self {
        Mutator {
            random: Random(seed | 1),
            seeds,
            words,
        }
    }

    /// Either.
    pub fn coin(&mut self) -> bool {
        self.random.below(2) == 0
    }

    fn seed(&mut self) -> Vec<u8> {
        let at = self.random.below(self.seeds.len());
        self.seeds[at].clone()
    }

    /// The next input.
    pub fn next(&mut self) -> Vec<u8> {
        let mut input = self.seed();
        for _ in 0..1 + self.random.below(5) {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn stretch(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let from = self.random.below(input.len() + 1);
        let to = from + self.random.below((input.len() - from).min(64) + 1);
        from..to
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.random.below(input.len() + 1);
        let part = self.stretch(input);
        match self.random.below(10) {
            0 if at < input.len() => input[at] ^= 1 << self.random.below(8),
            1 if at < input.len() => input[at] = self.random.draw() as u8,
            2 => input.insert(at, self.random.draw() as u8),
            3 => drop(input.drain(part)),
            4 => {
                let word = self.words[self.random.below(self.words.len())];
                drop(input.splice(part, word.iter().copied()));
            }
            5 => {
                let word = self.words[self.random.below(self.words.len())];
                drop(input.splice(at..at, word.iter().copied()));
            }
            6 => self.change_number(input),
            7 => {
                let copied = input[part].to_vec();
                let times = 1 + self.random.below(8);
                drop(input.splice(at..at, copied.repeat(times)));
            }
            8 => {
                let other = self.seed();
                let from = self.random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => input.truncate(at),
        }
    }

    fn change_number(&mut self, input: &mut Vec<u8>) {
        let digits: Vec<usize> = (0..input.len())
            .filter(|at| input[*at].is_ascii_digit())
            .collect();
        if digits.is_empty() {
            return;
        }
        let from = digits[self.random.below(digits.len())];
        let end = (from..input.len())
            .find(|at| !input[*at].is_ascii_digit())
            .unwrap_or(input.len());
        let number = NUMBERS[self.random.below(NUMBERS.len())];
        drop(input.splice(from..end, number.bytes()));
    }
}
