//! The part of MessagePack (<https://github.com/msgpack/msgpack/blob/master/spec.md>) that the
//! tokens use. Reading is bounded by the input; writing uses the shortest form of each number,
//! as the Go package does.

/// Most levels of arrays and maps.
const MAX_DEPTH: usize = 16;

/// The input is not what is expected at its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unexpected;

type Read<T> = Result<T, Unexpected>;

/// Reads values in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, n: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(Unexpected)?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Read<u8> {
        self.take(1).map(|byte| byte[0])
    }

    /// A number of `n` bytes, the most significant first.
    fn number(&mut self, n: usize) -> Read<u64> {
        Ok(self.take(n)?.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    fn size(&mut self, n: usize) -> Read<usize> {
        usize::try_from(self.number(n)?).map_err(|_| Unexpected)
    }

    pub(crate) fn uint(&mut self) -> Read<u64> {
        match self.byte()? {
            small @ 0x00..=0x7f => Ok(u64::from(small)),
            width @ 0xcc..=0xcf => self.number(1 << (width - 0xcc)),
            // A signed form of a number that is not negative.
            width @ 0xd0..=0xd3 => {
                let bytes = 1_u32 << (width - 0xd0);
                let number = self.number(bytes as usize)?;
                if number >> (bytes * 8 - 1) == 0 { Ok(number) } else { Err(Unexpected) }
            }
            _ => Err(Unexpected),
        }
    }

    pub(crate) fn int(&mut self) -> Read<i64> {
        let mut ahead = *self;
        match ahead.byte()? {
            small @ 0xe0..=0xff => {
                *self = ahead;
                Ok(i64::from(small.cast_signed()))
            }
            width @ 0xd0..=0xd3 => {
                let bytes = 1_u32 << (width - 0xd0);
                let number = ahead.number(bytes as usize)?;
                *self = ahead;
                let unused = 64 - bytes * 8;
                Ok((number << unused).cast_signed() >> unused)
            }
            _ => self.uint().and_then(|number| i64::try_from(number).map_err(|_| Unexpected)),
        }
    }

    pub(crate) fn bool(&mut self) -> Read<bool> {
        match self.byte()? {
            0xc2 => Ok(false),
            0xc3 => Ok(true),
            _ => Err(Unexpected),
        }
    }

    /// Bytes or a text.
    pub(crate) fn bytes(&mut self) -> Read<&'a [u8]> {
        let size = match self.byte()? {
            short @ 0xa0..=0xbf => usize::from(short & 0x1f),
            width @ 0xc4..=0xc6 => self.size(1 << (width - 0xc4))?,
            width @ 0xd9..=0xdb => self.size(1 << (width - 0xd9))?,
            _ => return Err(Unexpected),
        };
        self.take(size)
    }

    pub(crate) fn text(&mut self) -> Read<String> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| Unexpected)
    }

    /// The number of values in an array.
    pub(crate) fn array(&mut self) -> Read<usize> {
        match self.byte()? {
            short @ 0x90..=0x9f => Ok(usize::from(short & 0x0f)),
            0xdc => self.size(2),
            0xdd => self.size(4),
            _ => Err(Unexpected),
        }
    }

    /// The number of pairs in a map.
    pub(crate) fn map(&mut self) -> Read<usize> {
        match self.byte()? {
            short @ 0x80..=0x8f => Ok(usize::from(short & 0x0f)),
            0xde => self.size(2),
            0xdf => self.size(4),
            _ => Err(Unexpected),
        }
    }

    /// The bytes of the next value, of whatever type.
    pub(crate) fn raw(&mut self) -> Read<&'a [u8]> {
        let before = self.rest;
        self.skip(MAX_DEPTH)?;
        Ok(&before[..before.len() - self.rest.len()])
    }

    fn skip(&mut self, depth: usize) -> Read<()> {
        let mut ahead = *self;
        let values = match ahead.byte()? {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => {
                *self = ahead;
                return Ok(());
            }
            0xa0..=0xbf | 0xc4..=0xc6 | 0xd9..=0xdb => return self.bytes().map(drop),
            0x90..=0x9f | 0xdc | 0xdd => self.array()?,
            0x80..=0x8f | 0xde | 0xdf => self.map()?.checked_mul(2).ok_or(Unexpected)?,
            fixed => {
                let size = match fixed {
                    0xcc | 0xd0 => 1,
                    0xcd | 0xd1 => 2,
                    0xce | 0xd2 | 0xca => 4,
                    0xcf | 0xd3 | 0xcb => 8,
                    // Extensions: a type, and 1 to 16 bytes, or as many as they name.
                    0xd4..=0xd8 => (1 << (fixed - 0xd4)) + 1,
                    0xc7..=0xc9 => {
                        ahead.size(1 << (fixed - 0xc7))?.checked_add(1).ok_or(Unexpected)?
                    }
                    _ => return Err(Unexpected),
                };
                ahead.take(size)?;
                *self = ahead;
                return Ok(());
            }
        };
        let depth = depth.checked_sub(1).ok_or(Unexpected)?;
        // Each value has at least a byte: the input bounds the loop.
        (0..values).try_for_each(|_| self.skip(depth))
    }
}

/// Writes values in order.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    /// The shortest of the forms with 8, 16 and 32 bits of a size.
    fn size(&mut self, size: usize, forms: [u8; 3]) {
        if let Ok(size) = u8::try_from(size)
            && forms[0] != 0
        {
            self.0.extend([forms[0], size]);
        } else if let Ok(size) = u16::try_from(size) {
            self.0.push(forms[1]);
            self.0.extend(size.to_be_bytes());
        } else {
            self.0.push(forms[2]);
            self.0.extend(u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
        }
    }

    pub(crate) fn uint(&mut self, number: u64) {
        if number < 0x80 {
            self.0.push(number.to_be_bytes()[7]);
        } else if let Ok(number) = u32::try_from(number) {
            self.size(number as usize, [0xcc, 0xcd, 0xce]);
        } else {
            self.0.push(0xcf);
            self.0.extend(number.to_be_bytes());
        }
    }

    pub(crate) fn int(&mut self, number: i64) {
        if let Ok(number) = u64::try_from(number) {
            return self.uint(number);
        }
        if let Ok(small) = i8::try_from(number) {
            // From -32 on the number is its own form.
            self.0.extend((small < -32).then_some(0xd0));
            self.0.push(small.cast_unsigned());
        } else if let Ok(number) = i16::try_from(number) {
            self.0.push(0xd1);
            self.0.extend(number.to_be_bytes());
        } else if let Ok(number) = i32::try_from(number) {
            self.0.push(0xd2);
            self.0.extend(number.to_be_bytes());
        } else {
            self.0.push(0xd3);
            self.0.extend(number.to_be_bytes());
        }
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.0.push(if value { 0xc3 } else { 0xc2 });
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.size(bytes.len(), [0xc4, 0xc5, 0xc6]);
        self.0.extend(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        match u8::try_from(text.len()) {
            Ok(size) if size < 32 => self.0.push(0xa0 | size),
            _ => self.size(text.len(), [0xd9, 0xda, 0xdb]),
        }
        self.0.extend(text.as_bytes());
    }

    pub(crate) fn array(&mut self, values: usize) {
        match u8::try_from(values) {
            Ok(values) if values < 16 => self.0.push(0x90 | values),
            _ => self.size(values, [0, 0xdc, 0xdd]),
        }
    }

    pub(crate) fn map(&mut self, pairs: usize) {
        match u8::try_from(pairs) {
            Ok(pairs) if pairs < 16 => self.0.push(0x80 | pairs),
            _ => self.size(pairs, [0, 0xde, 0xdf]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_width_are_read_as_they_are_written() {
        let powers = (0..63).map(|bit| 1_i64 << bit);
        let edges = powers.flat_map(|power| [power - 1, power, power + 1, -power, -power - 1]);
        for number in edges.chain([i64::MIN, i64::MAX]) {
            let mut writer = Writer::default();
            writer.int(number);
            let mut reader = Reader::new(&writer.0);
            assert_eq!(reader.int(), Ok(number), "{:02x?}", writer.0);
            assert!(reader.is_at_end());
            assert_eq!(Reader::new(&writer.0).raw(), Ok(&*writer.0));
            let unsigned = Reader::new(&writer.0).uint();
            assert_eq!(unsigned.ok(), u64::try_from(number).ok(), "{number}");
        }
        for (number, bytes) in [(127, vec![0x7f]), (128, vec![0xcc, 0x80]), (256, vec![0xcd, 1, 0])]
        {
            let mut writer = Writer::default();
            writer.uint(number);
            assert_eq!(writer.0, bytes);
        }
        // Signed forms are read, too.
        assert_eq!(Reader::new(&[0xd1, 0x01, 0x00]).uint(), Ok(256));
        assert_eq!(Reader::new(&[0xd1, 0xff, 0x00]).uint(), Err(Unexpected));
    }

    #[test]
    fn texts_and_lists_of_every_size() {
        for size in [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536] {
            let mut writer = Writer::default();
            writer.text(&"x".repeat(size));
            writer.bytes(&vec![0; size]);
            writer.array(size);
            writer.map(size);
            writer.bool(true);
            let mut reader = Reader::new(&writer.0);
            assert_eq!(reader.text().unwrap().len(), size);
            assert_eq!(reader.bytes().unwrap().len(), size);
            assert_eq!(
                (reader.array(), reader.map(), reader.bool()),
                (Ok(size), Ok(size), Ok(true))
            );
        }
    }

    #[test]
    fn what_is_too_short_too_deep_or_too_large_is_refused() {
        let deep = [0x91].repeat(MAX_DEPTH + 2);
        for bytes in [
            &[][..],
            &[0xc1],
            &[0xa5, b'x'],
            &[0xdd, 0xff, 0xff, 0xff, 0xff],
            &[0xdf, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0xc6, 0xff, 0xff, 0xff, 0xff],
            &[0xc9, 0xff, 0xff, 0xff, 0xff, 0],
            &deep,
        ] {
            assert_eq!(Reader::new(bytes).raw(), Err(Unexpected), "{bytes:02x?}");
        }
        assert_eq!(Reader::new(&[0xa1, 0xff]).text(), Err(Unexpected), "no UTF-8");
    }
}
