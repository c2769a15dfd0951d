// Package filter reads the part of Google's filter language that tests need: comparisons of fields, NOT, OR, AND (in this
// order of precedence), parentheses, and lists of values. A restriction without a field is a text that some field has.
package filter

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Filter says whether something in its JSON form passes.
type Filter func(fields map[string]any) bool

// Compare orders a found value against a wanted one for one field: negative, 0 or positive; ok is false if it cannot.
type Compare func(found any, wanted string) (order int, ok bool)

type parser struct {
	tokens  []token
	compare map[string]Compare
}

type token struct {
	text   string
	quoted bool
}

const operators = "=!<>:~"

// Parse reads a filter. Fields that are not compared as text or numbers have their own comparison.
func Parse(text string, compare map[string]Compare) (Filter, error) {
	tokens, err := split(text)
	if err != nil {
		return nil, err
	}
	if len(tokens) == 0 {
		return func(map[string]any) bool { return true }, nil
	}
	p := &parser{tokens: tokens, compare: compare}
	found, err := p.all()
	if err == nil && len(p.tokens) > 0 {
		err = fmt.Errorf("unexpected %q in the filter", p.tokens[0].text)
	}
	return found, err
}

func split(text string) ([]token, error) {
	var tokens []token
	runes := []rune(text)
	for at := 0; at < len(runes); {
		switch first := runes[at]; {
		case unicode.IsSpace(first):
			at++
		case first == '"':
			end := at + 1
			for end < len(runes) && runes[end] != '"' {
				if runes[end] == '\\' {
					end++
				}
				end++
			}
			if end >= len(runes) {
				return nil, fmt.Errorf("a quote in the filter has no end")
			}
			content, err := strconv.Unquote(string(runes[at : end+1]))
			if err != nil {
				return nil, fmt.Errorf("%s in the filter cannot be read", string(runes[at:end+1]))
			}
			tokens = append(tokens, token{content, true})
			at = end + 1
		case first == '(' || first == ')' || first == '-' && at+1 < len(runes) && !unicode.IsDigit(runes[at+1]):
			tokens = append(tokens, token{text: string(first)})
			at++
		case strings.ContainsRune(operators, first):
			end := at + 1
			for end < len(runes) && strings.ContainsRune("=~", runes[end]) {
				end++
			}
			tokens = append(tokens, token{text: string(runes[at:end])})
			at = end
		default:
			end := at
			for end < len(runes) && !unicode.IsSpace(runes[end]) && !strings.ContainsRune("()\""+operators, runes[end]) {
				end++
			}
			// A part of a path may be quoted: labels."a.b".
			if end < len(runes) && runes[end] == '"' && runes[end-1] == '.' {
				close := end + 1
				for close < len(runes) && runes[close] != '"' {
					close++
				}
				part := strings.ReplaceAll(string(runes[end+1:min(close, len(runes))]), ".", "\x00")
				tokens = append(tokens, token{text: string(runes[at:end]) + part})
				at = close + 1
				continue
			}
			tokens = append(tokens, token{text: string(runes[at:end])})
			at = end
		}
	}
	return tokens, nil
}

func (p *parser) peek(text string) bool {
	return len(p.tokens) > 0 && !p.tokens[0].quoted && p.tokens[0].text == text
}

func (p *parser) take(text string) bool {
	is := p.peek(text)
	if is {
		p.tokens = p.tokens[1:]
	}
	return is
}

func (p *parser) all() (Filter, error) {
	found, err := p.any()
	for err == nil && len(p.tokens) > 0 && !p.peek(")") {
		p.take("AND")
		left := found
		var right Filter
		if right, err = p.any(); err == nil {
			found = func(fields map[string]any) bool { return left(fields) && right(fields) }
		}
	}
	return found, err
}

func (p *parser) any() (Filter, error) {
	found, err := p.one()
	for err == nil && p.take("OR") {
		left := found
		var right Filter
		if right, err = p.one(); err == nil {
			found = func(fields map[string]any) bool { return left(fields) || right(fields) }
		}
	}
	return found, err
}

func (p *parser) one() (Filter, error) {
	if p.take("NOT") || p.take("-") {
		inner, err := p.one()
		return func(fields map[string]any) bool { return !inner(fields) }, err
	}
	if p.take("(") {
		inner, err := p.all()
		if err == nil && !p.take(")") {
			err = fmt.Errorf("a parenthesis in the filter is not closed")
		}
		return inner, err
	}
	if len(p.tokens) == 0 {
		return nil, fmt.Errorf("the filter ends too early")
	}
	first := p.tokens[0]
	p.tokens = p.tokens[1:]
	if len(p.tokens) == 0 || p.tokens[0].quoted || !strings.ContainsAny(p.tokens[0].text[:1], operators) {
		return func(fields map[string]any) bool { return hasText(fields, strings.ToLower(first.text)) }, nil
	}
	operator := p.tokens[0].text
	p.tokens = p.tokens[1:]
	return p.values(first.text, operator)
}

// values reads one value, or a list of them in parentheses.
func (p *parser) values(field, operator string) (Filter, error) {
	if !p.take("(") {
		if len(p.tokens) == 0 {
			return nil, fmt.Errorf("the filter compares %q with nothing", field)
		}
		value := p.tokens[0]
		p.tokens = p.tokens[1:]
		return p.restriction(field, operator, value)
	}
	var choices []Filter
	for {
		if len(p.tokens) == 0 {
			return nil, fmt.Errorf("a list in the filter is not closed")
		}
		value := p.tokens[0]
		p.tokens = p.tokens[1:]
		one, err := p.restriction(field, operator, value)
		if err != nil {
			return nil, err
		}
		choices = append(choices, one)
		if p.take(")") {
			break
		}
		if !p.take("OR") {
			return nil, fmt.Errorf("a list in the filter takes OR")
		}
	}
	return func(fields map[string]any) bool {
		for _, one := range choices {
			if one(fields) {
				return true
			}
		}
		return false
	}, nil
}

func (p *parser) restriction(field, operator string, wanted token) (Filter, error) {
	path := strings.Split(field, ".")
	compare := p.compare[field]
	if compare == nil {
		compare = compareText
	}
	holds := func(test func(order int) bool) Filter {
		return func(fields map[string]any) bool {
			order, ok := compare(lookup(fields, path), wanted.text)
			return ok && test(order)
		}
	}
	switch operator {
	case "=":
		return holds(func(order int) bool { return order == 0 }), nil
	case "!=":
		same := holds(func(order int) bool { return order == 0 })
		return func(fields map[string]any) bool { return !same(fields) }, nil
	case "<":
		return holds(func(order int) bool { return order < 0 }), nil
	case "<=":
		return holds(func(order int) bool { return order <= 0 }), nil
	case ">":
		return holds(func(order int) bool { return order > 0 }), nil
	case ">=":
		return holds(func(order int) bool { return order >= 0 }), nil
	case ":":
		if wanted.text == "*" && !wanted.quoted {
			return func(fields map[string]any) bool { return lookup(fields, path) != nil }, nil
		}
		return func(fields map[string]any) bool {
			return hasText(lookup(fields, path), strings.ToLower(wanted.text))
		}, nil
	case "=~", "!~":
		pattern, err := regexp.Compile(wanted.text)
		if err != nil {
			return nil, err
		}
		return func(fields map[string]any) bool {
			found := lookup(fields, path)
			return (found != nil && pattern.MatchString(fmt.Sprint(found))) == (operator == "=~")
		}, nil
	}
	return nil, fmt.Errorf("the filter has no operator %q", operator)
}

func lookup(value any, path []string) any {
	for at, name := range path {
		fields, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		// A name may have dots itself.
		for to := len(path); to > at; to-- {
			if found, ok := fields[strings.ReplaceAll(strings.Join(path[at:to], "."), "\x00", ".")]; ok && to > at+1 {
				return lookup(found, path[to:])
			}
		}
		value = fields[strings.ReplaceAll(name, "\x00", ".")]
	}
	return value
}

func hasText(value any, wanted string) bool {
	switch value := value.(type) {
	case nil:
		return false
	case map[string]any:
		for _, one := range value {
			if hasText(one, wanted) {
				return true
			}
		}
		return false
	case []any:
		for _, one := range value {
			if hasText(one, wanted) {
				return true
			}
		}
		return false
	default:
		return strings.Contains(strings.ToLower(fmt.Sprint(value)), wanted)
	}
}

func compareText(found any, wanted string) (int, bool) {
	if found == nil {
		return 0, false
	}
	text := fmt.Sprint(found)
	a, errA := strconv.ParseFloat(text, 64)
	b, errB := strconv.ParseFloat(wanted, 64)
	if errA == nil && errB == nil {
		switch {
		case a < b:
			return -1, true
		case a > b:
			return 1, true
		}
		return 0, true
	}
	return strings.Compare(strings.ToLower(text), strings.ToLower(wanted)), true
}

// Time compares times in RFC 3339, also with an offset without a colon as Google's Python client writes it.
func Time(found any, wanted string) (int, bool) {
	a, errA := parseTime(fmt.Sprint(found))
	b, errB := parseTime(wanted)
	return a.Compare(b), errA == nil && errB == nil
}

func parseTime(text string) (time.Time, error) {
	parsed, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		parsed, err = time.Parse("2006-01-02T15:04:05.999999999-0700", text)
	}
	return parsed, err
}
