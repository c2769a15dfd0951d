//! Reads the filter language.
//!
//! Grammar: `or = and {OR and}`; `and = not {[AND] not}`; `not = (NOT | -) not | (or) | term`;
//! `term = text | name:value | name:(or) | name:[a TO b] | name OP value`, where OP is `=`, `!=`, `<`, `<=`, `>` or `>=`.
//! There is no separate lexer: what a character means depends on what came before it (`:` is part of a value, not of a
//! name).

use super::{Comparison, Filter, FilterError, Literal, Pattern, Piece, Span, Test};

/// Characters of a filter.
pub(crate) const CHARACTERS_MAX: usize = 4_000;
/// Parentheses and negations inside each other.
const NESTING_MAX: usize = 32;
/// Tests in one filter.
const TESTS_MAX: usize = 200;
const EXISTS: &str = "_exists_";

/// Reads a filter. Text of white space only is the filter that lets everything through.
///
/// # Errors
/// With the place of the first mistake.
pub fn parse(text: &str) -> Result<Filter, FilterError> {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() > CHARACTERS_MAX {
        let span = Span { start: CHARACTERS_MAX, end: characters.len() };
        let message = format!("the filter has {} characters, more than {CHARACTERS_MAX}", characters.len());
        return Err(FilterError::new(span, message, "search for less at once, or use SQL"));
    }
    let mut parser = Parser { characters, at: 0, depth: 0, tests: 0, group: None };
    parser.skip_space();
    if parser.peek().is_none() {
        return Ok(Filter::All);
    }
    let filter = parser.or()?;
    match parser.peek() {
        None => Ok(filter),
        Some(_) => {
            Err(parser.here(1, "this parenthesis closes nothing", "remove it, or write \\) or \")\" to search for it"))
        }
    }
}

struct Parser {
    characters: Vec<char>,
    at: usize,
    depth: usize,
    tests: usize,
    /// The field of `name:( … )` around this place.
    group: Option<(String, Span)>,
}

/// A word as read, before it is known what it is.
struct Word {
    pieces: Vec<Piece>,
    span: Span,
    /// Whether it was written in quotes or with escapes, so that it is no keyword.
    is_plain: bool,
}

impl Word {
    fn pattern(self) -> Pattern {
        Pattern { pieces: self.pieces, span: self.span }
    }

    /// The text, wildcards as written.
    fn text(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Any => "*".to_owned(),
        };
        self.pieces.iter().map(piece).collect()
    }

    fn literal(&self) -> Literal {
        Literal { text: self.text(), span: self.span }
    }

    fn is_any(&self) -> bool {
        self.pieces == [Piece::Any]
    }
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn peek_after(&self, offset: usize) -> Option<char> {
        self.characters.get(self.at + offset).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn here(&self, width: usize, message: impl Into<String>, hint: impl Into<String>) -> FilterError {
        FilterError::new(Span { start: self.at, end: self.at + width }, message, hint)
    }

    /// Takes a keyword in capitals that stands alone.
    fn take_keyword(&mut self, keyword: &str) -> bool {
        let length = keyword.len();
        let is_there = keyword.chars().enumerate().all(|(index, letter)| self.peek_after(index) == Some(letter));
        let ends = self.peek_after(length).is_none_or(|next| next.is_whitespace() || "()".contains(next));
        if is_there && ends {
            self.at += length;
            self.skip_space();
        }
        is_there && ends
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, FilterError>) -> Result<T, FilterError> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            let message = format!("the filter nests deeper than {NESTING_MAX} levels");
            return Err(self.here(1, message, "use fewer parentheses, or use SQL"));
        }
        let found = inner(self);
        self.depth -= 1;
        found
    }

    fn or(&mut self) -> Result<Filter, FilterError> {
        let mut parts = vec![self.and()?];
        while self.take_keyword("OR") {
            self.expect_operand("OR")?;
            parts.push(self.and()?);
        }
        Ok(joined(parts, Filter::Or))
    }

    fn and(&mut self) -> Result<Filter, FilterError> {
        let mut parts = vec![self.not()?];
        loop {
            if self.take_keyword("AND") {
                self.expect_operand("AND")?;
            } else if matches!(self.peek(), None | Some(')')) || self.is_keyword("OR") {
                return Ok(joined(parts, Filter::And));
            }
            parts.push(self.not()?);
        }
    }

    fn is_keyword(&mut self, keyword: &str) -> bool {
        let before = self.at;
        let found = self.take_keyword(keyword);
        self.at = before;
        found
    }

    fn expect_operand(&mut self, after: &str) -> Result<(), FilterError> {
        let is_missing = matches!(self.peek(), None | Some(')')) || self.is_keyword("OR") || self.is_keyword("AND");
        if is_missing {
            let hint = format!("write what to look for after it, or \"{after}\" in quotes to search for the word");
            return Err(self.here(1, format!("nothing follows {after}"), hint));
        }
        Ok(())
    }

    fn not(&mut self) -> Result<Filter, FilterError> {
        for keyword in ["OR", "AND"] {
            if self.is_keyword(keyword) {
                let hint =
                    format!("write what to look for before it, or \"{keyword}\" in quotes to search for the word");
                return Err(self.here(keyword.len(), format!("nothing stands before {keyword}"), hint));
            }
        }
        let is_minus = self.peek() == Some('-') && self.peek_after(1).is_some_and(|next| !next.is_whitespace());
        if is_minus {
            self.at += 1;
            return self.deeper(|parser| Ok(Filter::Not(Box::new(parser.not()?))));
        }
        if self.take_keyword("NOT") {
            self.expect_operand("NOT")?;
            return self.deeper(|parser| Ok(Filter::Not(Box::new(parser.not()?))));
        }
        if self.peek() == Some('(') {
            return self.parenthesis();
        }
        self.term()
    }

    fn parenthesis(&mut self) -> Result<Filter, FilterError> {
        let open = Span { start: self.at, end: self.at + 1 };
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(')') {
            return Err(FilterError::new(open, "there is nothing in the parentheses", "remove them, or fill them"));
        }
        let inner = self.deeper(Self::or)?;
        if self.peek() != Some(')') {
            return Err(FilterError::new(open, "this parenthesis is not closed", "write ) at its end"));
        }
        self.at += 1;
        self.skip_space();
        Ok(inner)
    }

    fn term(&mut self) -> Result<Filter, FilterError> {
        self.tests += 1;
        if self.tests > TESTS_MAX {
            let message = format!("the filter has more than {TESTS_MAX} tests");
            return Err(self.here(1, message, "use fewer, or use SQL with IN"));
        }
        if let Some(found @ ('[' | '{' | ']' | '}')) = self.peek() {
            let hint = "write field:[1 TO 5], or put the bracket in quotes to search for it";
            return Err(self.here(1, format!("{found} stands for a range, but no field is before it"), hint));
        }
        if let Some(filter) = self.group_value()? {
            return Ok(filter);
        }
        let word = self.word(true)?;
        match self.operator() {
            Some(operator) => self.field(word, operator),
            None => {
                self.skip_space();
                Ok(Filter::Text(word.pattern()))
            }
        }
    }

    /// In `name:( … )` every word is a value of the field.
    fn group_value(&mut self) -> Result<Option<Filter>, FilterError> {
        let Some((name, span)) = self.group.clone() else { return Ok(None) };
        let test = match self.comparison() {
            Some(comparison) => Test::Compare(comparison, self.value()?.literal()),
            None => is(self.value()?),
        };
        self.skip_space();
        Ok(Some(Filter::Field { name, span, test }))
    }

    /// The operator right after a name, if there is one.
    fn operator(&self) -> Option<&'static str> {
        let next = |offset| self.peek_after(offset);
        match (next(0)?, next(1)) {
            ('!', Some('=')) => Some("!="),
            ('<', Some('=')) => Some("<="),
            ('>', Some('=')) => Some(">="),
            (':', _) => Some(":"),
            ('=', _) => Some("="),
            ('<', _) => Some("<"),
            ('>', _) => Some(">"),
            _ => None,
        }
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let (comparison, length) = match self.operator()? {
            "<" => (Comparison::Less, 1),
            "<=" => (Comparison::LessOrEqual, 2),
            ">" => (Comparison::More, 1),
            ">=" => (Comparison::MoreOrEqual, 2),
            _ => return None,
        };
        self.at += length;
        Some(comparison)
    }

    fn field(&mut self, word: Word, operator: &'static str) -> Result<Filter, FilterError> {
        let (name, span) = (word.text(), word.span);
        if word.pieces.contains(&Piece::Any) || name.is_empty() {
            let hint = "name one field; to search for the text, put it in quotes";
            return Err(FilterError::new(span, "this is no name of a field", hint));
        }
        if let Some(comparison) = self.comparison() {
            let literal = self.value()?.literal();
            self.skip_space();
            return Ok(Filter::Field { name, span, test: Test::Compare(comparison, literal) });
        }
        self.at += operator.len();
        if operator == "!=" {
            let test = is(self.value()?);
            self.skip_space();
            return Ok(Filter::Not(Box::new(Filter::Field { name, span, test })));
        }
        if name == EXISTS && word.is_plain {
            let field = self.value()?;
            self.skip_space();
            return Ok(Filter::Field { name: field.text(), span: field.span, test: Test::Exists });
        }
        let test = match self.peek() {
            Some('(') => {
                let outer = self.group.replace((name, span));
                let filter = self.parenthesis();
                self.group = outer;
                return filter;
            }
            Some('[' | '{') => self.range()?,
            _ => match self.comparison() {
                Some(comparison) => Test::Compare(comparison, self.value()?.literal()),
                None => is(self.value()?),
            },
        };
        self.skip_space();
        Ok(Filter::Field { name, span, test })
    }

    fn value(&mut self) -> Result<Word, FilterError> {
        match self.peek() {
            None | Some(')') => Err(self.here(1, "a value is missing here", "write one, e.g. service:shop")),
            Some(space) if space.is_whitespace() => {
                Err(self.here(1, "a value is missing here", "write the value without a space before it"))
            }
            Some(bracket @ ('[' | '{' | '(')) => {
                let hint =
                    "ranges and groups follow a colon, as in status:[500 TO 599]; put the text in quotes otherwise";
                Err(self.here(1, format!("no {bracket} can stand here"), hint))
            }
            _ => self.word(false),
        }
    }

    fn range(&mut self) -> Result<Test, FilterError> {
        let open = Span { start: self.at, end: self.at + 1 };
        let low_included = self.peek() == Some('[');
        self.at += 1;
        self.skip_space();
        let low = self.bound()?;
        self.skip_space();
        if !self.take_keyword("TO") {
            return Err(self.here(1, "TO is missing in the range", "write it as [500 TO 599]; * is no bound"));
        }
        let high = self.bound()?;
        self.skip_space();
        let high_included = match self.peek() {
            Some(']') => true,
            Some('}') => false,
            _ => {
                return Err(FilterError::new(
                    open,
                    "this range is not closed",
                    "write ] at its end, or } to leave the end out",
                ));
            }
        };
        self.at += 1;
        Ok(Test::Range { low, low_included, high, high_included })
    }

    fn bound(&mut self) -> Result<Option<Literal>, FilterError> {
        if matches!(self.peek(), None | Some(']' | '}' | '[' | '{' | '(' | ')')) || self.is_keyword("TO") {
            return Err(self.here(1, "a bound of the range is missing", "write it as [500 TO 599]; * is no bound"));
        }
        let word = self.read(|next, _, _| !next.is_whitespace() && !"]}[{()".contains(next))?;
        Ok((!word.is_any() || !word.is_plain).then(|| word.literal()))
    }

    /// A word or quoted text. A name ends before its operator.
    fn word(&mut self, may_be_name: bool) -> Result<Word, FilterError> {
        self.read(|next, after, so_far| {
            let is_operator = ":=<>".contains(next) || (next == '!' && after == Some('='));
            let ends_name = may_be_name && is_operator && is_name(so_far);
            !next.is_whitespace() && !"()\"".contains(next) && !ends_name
        })
    }

    /// Reads quoted text, or characters as long as they belong to the word.
    fn read(&mut self, belongs: impl Fn(char, Option<char>, &str) -> bool) -> Result<Word, FilterError> {
        let start = self.at;
        let mut pieces = Vec::new();
        if self.peek() == Some('"') {
            self.at += 1;
            loop {
                match self.peek() {
                    Some('"') => break,
                    None => {
                        let span = Span { start, end: start + 1 };
                        return Err(FilterError::new(span, "this quote is not closed", "write \" at its end"));
                    }
                    Some(letter) => push(&mut pieces, self.unescaped(letter)),
                }
                self.at += 1;
            }
            self.at += 1;
            return Ok(Word { pieces, span: Span { start, end: self.at }, is_plain: false });
        }
        let mut so_far = String::new();
        let mut is_plain = true;
        while let Some(next) = self.peek().filter(|next| belongs(*next, self.peek_after(1), &so_far)) {
            so_far.push(next);
            match next {
                '*' => push_any(&mut pieces),
                _ => {
                    is_plain &= next != '\\';
                    let letter = self.unescaped(next);
                    push(&mut pieces, letter);
                }
            }
            self.at += 1;
        }
        if self.at == start {
            return Err(self.here(1, "something is missing here", "write a word, a field:value or \"text in quotes\""));
        }
        Ok(Word { pieces, span: Span { start, end: self.at }, is_plain })
    }

    /// The character here; after a backslash the one behind it.
    fn unescaped(&mut self, letter: char) -> char {
        match self.peek_after(1) {
            Some(next) if letter == '\\' => {
                self.at += 1;
                next
            }
            _ => letter,
        }
    }
}

/// Whether the characters so far can be the name of a field.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || "_@".contains(first))
        && text.chars().all(|letter| letter.is_alphanumeric() || "_.@/-".contains(letter))
}

fn push(pieces: &mut Vec<Piece>, letter: char) {
    match pieces.last_mut() {
        Some(Piece::Text(text)) => text.push(letter),
        _ => pieces.push(Piece::Text(letter.to_string())),
    }
}

fn push_any(pieces: &mut Vec<Piece>) {
    if pieces.last() != Some(&Piece::Any) {
        pieces.push(Piece::Any);
    }
}

/// `*` alone asks for any value.
fn is(word: Word) -> Test {
    if word.is_any() { Test::Exists } else { Test::Is(word.pattern()) }
}

fn joined(mut parts: Vec<Filter>, join: impl FnOnce(Vec<Filter>) -> Filter) -> Filter {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            join(parts)
        }
        None => Filter::All,
    }
}
