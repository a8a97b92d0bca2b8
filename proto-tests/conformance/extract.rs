//! The clauses of an RFC, found in its text by rule and not by reading: every MUST, SHALL and REQUIRED with its section.

/// One keyword in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// RFC, section, and which keyword of that section it is: `4271-6.2-3`.
    pub id: String,
    /// As it stands there, in capitals.
    pub keyword: &'static str,
    /// Of the sentence around it, so that a text or a rule that changed is noticed.
    pub hash: String,
    /// The sentence.
    pub sentence: String,
}

/// Whether a text gives these words their meaning in capitals only (RFC 2119), or was written before that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// Capitals alone oblige.
    Capitals,
    /// Small letters oblige as well.
    AnyCase,
}

/// What obliges, longest first.
const KEYWORDS: [&str; 5] = ["MUST NOT", "SHALL NOT", "MUST", "SHALL", "REQUIRED"];

/// All clauses of a text, in its order.
pub fn clauses(rfc: u32, text: &str, era: Era) -> Vec<Clause> {
    let mut clauses = Vec::new();
    let mut sections: Vec<(String, String)> = vec![("0".to_owned(), String::new())];
    for line in text.lines().filter(|line| !is_furniture(line)) {
        match heading(line) {
            Some(section) => sections.push((section, String::new())),
            None => {
                let (_, words) = sections.last_mut().expect("it begins with one");
                let ended = line.trim().is_empty() && words.ends_with(':');
                words.push_str(if ended { "\u{b6}" } else { " " });
                words.push_str(line.trim());
            }
        }
    }
    let mut counted = std::collections::BTreeMap::<String, usize>::new();
    for (section, words) in sections {
        for sentence in sentences(&words).iter().filter(|sentence| !is_about_words(sentence)) {
            for keyword in keywords(sentence, era) {
                let ordinal = counted.entry(section.clone()).or_default();
                *ordinal += 1;
                clauses.push(Clause {
                    id: format!("{rfc}-{section}-{ordinal}"),
                    keyword,
                    hash: hash(sentence),
                    sentence: sentence.clone(),
                });
            }
        }
    }
    clauses
}

/// How often the keywords stand in a text, quotations of them excepted, counted without any of the rules above.
pub fn plain_count(text: &str, era: Era) -> usize {
    let obliges = |word: &&str| {
        let capitals = match era {
            Era::Capitals => (*word).to_owned(),
            Era::AnyCase => word.to_uppercase(),
        };
        ["MUST", "SHALL", "REQUIRED"].contains(&&*capitals)
    };
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '"'));
    words.filter(obliges).count()
}

/// Feet and heads of pages.
fn is_furniture(line: &str) -> bool {
    let foot = line.trim_end().ends_with(']') && line.contains("[Page ");
    let head = line.starts_with("RFC ") && line.trim_end().ends_with(|c: char| c.is_ascii_digit()) && line.len() > 60;
    foot || head || line.contains('\u{c}')
}

/// The section that a line opens: its number, the letter of an appendix, or its words where it has no number.
fn heading(line: &str) -> Option<String> {
    let first = line.chars().next().filter(|c| c.is_ascii_alphanumeric())?;
    let mut words = line.split_whitespace();
    let word = words.next()?;
    if first.is_ascii_digit() {
        return Some(word.trim_end_matches('.').to_owned());
    }
    if word == "Appendix" {
        return words.next().map(|letter| letter.trim_end_matches(['.', ':']).to_owned());
    }
    let slug = |word: &str| word.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    Some(line.split_whitespace().take(3).map(slug).filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-"))
}

/// Cuts at full stops and question marks that a capital or a sign follows, and behind a colon that ends a paragraph.
fn sentences(words: &str) -> Vec<String> {
    let mut sentences = Vec::new();
    for block in words.split('\u{b6}') {
        let mut sentence = String::new();
        let mut words = block.split_whitespace().peekable();
        while let Some(word) = words.next() {
            if !sentence.is_empty() {
                sentence.push(' ');
            }
            sentence.push_str(word);
            let ends = word.ends_with(['.', '?']) || word.ends_with(".)") || word.ends_with(".\"");
            if ends && words.peek().is_none_or(|next| next.starts_with(|c: char| !c.is_ascii_lowercase())) {
                sentences.push(std::mem::take(&mut sentence));
            }
        }
        sentences.push(sentence);
    }
    sentences
}

/// Whether a sentence explains the keywords instead of using them.
fn is_about_words(sentence: &str) -> bool {
    sentence.contains("\"MUST NOT\"") || sentence.contains("\"SHALL NOT\"")
}

fn keywords(sentence: &str, era: Era) -> Vec<&'static str> {
    let text = match era {
        Era::Capitals => sentence.to_owned(),
        Era::AnyCase => sentence.to_uppercase(),
    };
    let (mut found, mut at) = (Vec::new(), 0);
    let part_of_word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    while at < text.len() {
        let fits = |keyword: &&&str| {
            text[at..].starts_with(**keyword)
                && !part_of_word(text[..at].chars().next_back())
                && !part_of_word(text[at + keyword.len()..].chars().next())
        };
        match KEYWORDS.iter().find(fits) {
            Some(keyword) => {
                found.push(*keyword);
                at += keyword.len();
            }
            None => at += text[at..].chars().next().map_or(1, char::len_utf8),
        }
    }
    found
}

/// FNV-1a, 32 bits.
fn hash(sentence: &str) -> String {
    let sum = sentence.bytes().fold(0x811c_9dc5_u32, |sum, octet| (sum ^ u32::from(octet)).wrapping_mul(0x0100_0193));
    format!("{sum:08x}")
}

/// A page of an RFC that never was.
const PAGE: &str = "\
1.  Words

   The key words \"MUST\", \"MUST NOT\" and \"SHALL\" are explained elsewhere.

2.  Rules

   A router MUST hum. It MUST
   NOT sing, and it must not dance;
   SHALL I compare it to a MUSTang?

Somebody                  Standards Track                     [Page 1]
\u{c}
RFC 77777                      Humming Routers              January 1970

2.1.  Exceptions:

   If it is a bridge:

   o  singing is REQUIRED.

Appendix B.  Songs

   They SHALL NOT rhyme.
";

#[test]
fn clauses_are_found_by_rule() {
    let found = clauses(77777, PAGE, Era::Capitals);
    let told: Vec<_> = found.iter().map(|c| (&*c.id, c.keyword)).collect();
    let wanted = [
        ("77777-2-1", "MUST"),
        ("77777-2-2", "MUST NOT"),
        ("77777-2-3", "SHALL"),
        ("77777-2.1-1", "REQUIRED"),
        ("77777-B-1", "SHALL NOT"),
    ];
    assert_eq!(told, wanted);
    assert_eq!((found[3].sentence.as_str(), found.len()), ("o singing is REQUIRED.", plain_count(PAGE, Era::Capitals)));
    assert_eq!(clauses(77777, PAGE, Era::AnyCase)[2].keyword, "MUST NOT", "small letters of an early text oblige too");
    assert_eq!((found[1].hash == found[2].hash, found[0].hash == found[1].hash), (true, false));
}
