package config

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Position is where something was written: in a file or in a flag.
type Position struct {
	File         string
	Line, Column int    // counted from 1, in characters; 0 if it is about the whole file
	Flag         string // "--peer"; then there is no file
}

// String returns "jumpgate.yaml:12:5", "jumpgate.yaml" or "--peer".
func (p Position) String() string {
	switch {
	case p.Flag != "":
		return p.Flag
	case p.Line == 0:
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Error is one thing that is wrong with a configuration.
type Error struct {
	Position
	Message string // what is wrong, lower case, without a full stop
	Excerpt string // the offending line with a caret below; secrets are blotted out
	hint    string
}

// Error returns position, message and excerpt, on several lines if there is
// an excerpt.
func (e *Error) Error() string {
	s := e.Message
	if at := e.Position.String(); at != "" {
		s = at + ": " + s
	}
	if e.Excerpt != "" {
		s += "\n" + e.Excerpt
	}
	return s
}

// Hint says what to do about it.
func (e *Error) Hint() string { return e.hint }

// Errors is everything that is wrong with a configuration, two errors at
// least, in the order of the files. Whoever shows it walks Unwrap, to show
// each error with its own hint.
type Errors []*Error

// Error returns all errors, one after the other.
func (e Errors) Error() string {
	all := make([]string, len(e))
	for i, one := range e {
		all[i] = one.Error()
	}
	return strings.Join(all, "\n")
}

// Hint returns the different hints in one line.
func (e Errors) Hint() string {
	var hints []string
	for _, one := range e {
		if one.hint != "" && !slices.Contains(hints, one.hint) {
			hints = append(hints, one.hint)
		}
	}
	return strings.Join(hints, "; ")
}

// Unwrap returns the errors one by one.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}

// Warning is something that works and that an administrator should know.
type Warning struct {
	Position
	Message string
}

// String returns position and message in one line.
func (w Warning) String() string { return w.Position.String() + ": " + w.Message }

// report collects what is found while a configuration is read.
type report struct {
	errs     []*Error
	more     int // errors beyond maxErrors
	warnings []Warning
}

const (
	maxErrors  = 50  // shown of one configuration
	maxMessage = 500 // bytes of one message
)

func (r *report) errorf(at place, hint, format string, args ...any) {
	if len(r.errs) == maxErrors {
		r.more++
		return
	}
	r.errs = append(r.errs, &Error{
		Position: at.position(),
		Message:  message(format, args),
		Excerpt:  at.excerpt(),
		hint:     hint,
	})
}

// count is how many errors there are.
func (r *report) count() int { return len(r.errs) + r.more }

func (r *report) warnf(at place, format string, args ...any) {
	r.warnings = append(r.warnings, Warning{at.position(), message(format, args)})
}

// message formats a message: in one line of bounded length, without secrets.
func message(format string, args []any) string {
	s := redactURL(fmt.Sprintf(format, args...))
	s = strings.ReplaceAll(s, "\n", " ")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return s
}

// err returns what was found: nil, one *Error, or Errors.
func (r *report) err() error {
	switch {
	case len(r.errs) == 0:
		return nil
	case len(r.errs) == 1:
		return r.errs[0]
	}
	var files []string // in the order in which they were read
	for _, e := range r.errs {
		if !slices.Contains(files, e.File) {
			files = append(files, e.File)
		}
	}
	slices.SortStableFunc(r.errs, func(a, b *Error) int {
		return cmp.Or(
			cmp.Compare(slices.Index(files, a.File), slices.Index(files, b.File)),
			cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if r.more > 0 {
		last := r.errs[len(r.errs)-1].Position
		r.errs = append(r.errs, &Error{
			Position: Position{File: last.File, Flag: last.Flag},
			Message:  fmt.Sprintf("%d more errors are not shown", r.more),
		})
	}
	return Errors(r.errs)
}

// source is a file that was read.
type source struct {
	name string // as messages show it
	dir  string // absolute; what relative names in it are relative to
	text []byte
}

// place is a Position that can still be shown.
type place struct {
	src          *source // nil for a flag
	line, column int
	flag         string
}

func (p place) position() Position {
	if p.src == nil {
		return Position{Flag: p.flag}
	}
	return Position{File: p.src.name, Line: p.line, Column: p.column}
}

// excerptWidth is how many characters of a long line are shown to the left
// and to the right of the place.
const excerptWidth = 80

// excerpt returns the line of the place and a caret below its column.
func (p place) excerpt() string {
	if p.src == nil || p.line < 1 {
		return ""
	}
	text := p.src.text
	for range p.line - 1 {
		_, rest, found := bytes.Cut(text, []byte("\n"))
		if !found {
			return ""
		}
		text = rest
	}
	text, _, _ = bytes.Cut(text, []byte("\n"))
	line := []rune(strings.ToValidUTF8(string(text), "?"))
	column := min(max(p.column-1, 0), len(line))

	all := []rune(redact(string(line)))
	if !slices.Equal(all, line) { // the caret moves with what was blotted out left of it
		column = min(utf8.RuneCountInString(redact(string(line[:column]))), len(all))
	}
	if from := column - excerptWidth; from > 0 {
		all, column = append([]rune("…"), all[from:]...), column-from+1
	}
	if to := column + excerptWidth; to < len(all) {
		all = append(all[:to:to], '…')
	}
	for i, c := range all {
		if c != '\t' && unicode.IsControl(c) {
			all[i] = '?'
		}
	}
	indent := strings.Map(func(c rune) rune {
		if c == '\t' {
			return c
		}
		return ' '
	}, string(all[:column]))
	return fmt.Sprintf("%5d | %s\n      | %s^", p.line, string(all), indent)
}

// The ways in which somebody might write a secret into a configuration
// although none belongs there: as the password of a URL, as the value of a
// field of such a name, as the lines of a key.
var (
	secretInURL   = regexp.MustCompile(`:\S*@`)
	secretInField = regexp.MustCompile(`(?i)((?:password|passwd|secret|token|auth)["']?\s*:\s*)\S.*`)
	secretInPEM   = regexp.MustCompile(`^(\s*)[A-Za-z0-9+/=]{40,}\s*$`)
)

// redactURL blots out the password of a URL.
func redactURL(s string) string {
	return secretInURL.ReplaceAllStringFunc(s, func(found string) string {
		user, inURL := strings.CutPrefix(strings.TrimSuffix(found, "@"), "://")
		name, _, secret := strings.Cut(user, ":")
		switch {
		case !inURL:
			return ":***@"
		case secret || strings.Contains(name, "/"):
			return "://" + name + ":***@"
		}
		return found
	})
}

// redact blots out what looks like a secret in a line of a file.
func redact(line string) string {
	line = secretInField.ReplaceAllString(redactURL(line), "${1}***")
	return secretInPEM.ReplaceAllString(line, "${1}***")
}
