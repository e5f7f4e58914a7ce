//! A mutator that knows what inputs look like from their seeds and from words: it cuts, joins, repeats and exchanges at the
//! level of lines, words, numbers and bytes. The same random seed makes the same inputs.

/// Longest input, in bytes.
const LONGEST: usize = 32 * 1024;

/// Numbers at which readers of numbers go wrong.
const NUMBERS: [&str; 14] = [
    "0",
    "1",
    "-1",
    "+1",
    "00",
    "255",
    "256",
    "65535",
    "65536",
    "2147483648",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "1e9",
];

/// Random numbers that the seed alone decides (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// Makes inputs of seeds and words.
pub(crate) struct Mutator<'a> {
    random: Random,
    words: &'a [&'a [u8]],
    seeds: &'a [Vec<u8>],
}

impl<'a> Mutator<'a> {
    pub(crate) fn new(random: Random, words: &'a [&'a [u8]], seeds: &'a [Vec<u8>]) -> Self {
        Self { random, words, seeds }
    }

    /// One of the seeds, changed at one place or at several.
    pub(crate) fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.seeds[self.random.below(self.seeds.len())].clone();
        // Mostly few: an input that has nothing to do with a seed any more is refused at its first byte.
        for _ in 0..=self.random.below(8).min(self.random.below(8)) {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        match self.random.below(13) {
            0 => self.change_byte(input),
            1 => {
                let byte = self.random.next() as u8;
                self.put_in(input, &[byte]);
            }
            2 | 3 => {
                let word = self.random.pick(self.words);
                self.put_in(input, word);
            }
            4 => {
                let word = self.random.pick(self.words);
                let range = self.range(input.len(), 16);
                input.splice(range, word.iter().copied());
            }
            5 => {
                let range = self.range(input.len(), 64);
                input.drain(range);
            }
            6 => {
                let piece = input[self.range(input.len(), 64)].to_vec();
                let repeated = piece.repeat(1 + self.random.below(4));
                self.put_in(input, &repeated);
            }
            7 => {
                let other = &self.seeds[self.random.below(self.seeds.len())];
                let piece = other[self.range(other.len(), other.len())].to_vec();
                self.put_in(input, &piece);
            }
            8 => self.change_number(input),
            9 | 10 => self.change_lines(input),
            11 => input.truncate(self.random.below(input.len() + 1)),
            _ => self.change_case(input),
        }
    }

    fn change_byte(&mut self, input: &mut [u8]) {
        let at = self.random.below(input.len());
        let Some(byte) = input.get_mut(at) else { return };
        *byte = match self.random.below(4) {
            0 => *byte ^ 1 << self.random.below(8),
            1 => byte.wrapping_add(1),
            2 => *self.random.pick(&[&b'\0', &b'\r', &b'\n', &b' ', &b'\t', &b'%', &b'"', &0x7f, &0xff]),
            _ => self.random.next() as u8,
        };
    }

    fn put_in(&mut self, input: &mut Vec<u8>, piece: &[u8]) {
        let at = self.random.below(input.len() + 1);
        input.splice(at..at, piece.iter().copied());
    }

    /// A piece of at most so many bytes.
    fn range(&mut self, length: usize, most: usize) -> std::ops::Range<usize> {
        let start = self.random.below(length);
        start..start + self.random.below((length - start).min(most) + 1)
    }

    fn change_number(&mut self, input: &mut Vec<u8>) {
        let digits: Vec<usize> = (0..input.len()).filter(|&at| input[at].is_ascii_digit()).collect();
        let Some(&start) = digits.get(self.random.below(digits.len())) else { return };
        let length = input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = self.random.pick(&NUMBERS);
        input.splice(start..start + length, number.bytes());
    }

    /// Takes a line away, repeats one, or exchanges two.
    fn change_lines(&mut self, input: &mut Vec<u8>) {
        let mut lines: Vec<Vec<u8>> =
            input.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let (one, other) = (self.random.below(lines.len()), self.random.below(lines.len()));
        match self.random.below(3) {
            _ if lines.is_empty() => {}
            0 => drop(lines.remove(one)),
            1 => lines.insert(other, lines[one].clone()),
            _ => lines.swap(one, other),
        }
        *input = lines.concat();
    }

    fn change_case(&mut self, input: &mut [u8]) {
        let range = self.range(input.len(), 12);
        for byte in &mut input[range] {
            if self.random.below(2) == 0 {
                *byte ^= if byte.is_ascii_alphabetic() { 0x20 } else { 0 };
            }
        }
    }
}
