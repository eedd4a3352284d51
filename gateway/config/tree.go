package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// value is a value of the configuration and the place where it was written.
// Files and flags both become values; only what reads values knows fields.
//
// The strict decoder of the YAML library stops at the first error, does not
// always meet the same one first, and forgets the places that later checks
// need; so the library parses and this package reads what it parsed.
type value struct {
	at     place
	kind   kind
	text   string   // of a scalar
	quoted bool     // a scalar in quotes or a block: text, whatever it looks like
	fields []field  // of a mapping
	items  []*value // of a list
}

type field struct {
	key   string
	at    place
	value *value
}

type kind int

const (
	null kind = iota
	scalar
	mapping
	list
)

func (k kind) String() string {
	return [...]string{"nothing", "a single value", "a mapping", "a list"}[k]
}

// maxDepth is how deep values may be nested: enough for every field there is.
const maxDepth = 16

const (
	hintPlainYAML = "write the value itself; sites share peers by naming one peers_dir"
	hintDepth     = "no field is that deep: look for a bracket that is not closed"
)

// parse reads a file that holds one YAML document: a mapping.
func parse(r *report, src *source) (*value, bool) {
	whole := place{src: src}
	src.text = lines(src.text)
	if !utf8.Valid(src.text) {
		r.errorf(firstInvalid(src), "save the file as UTF-8", "the text is not UTF-8")
		return nil, false
	}
	file, err := syntax(src)
	if deep, ok := errors.AsType[tooDeep](err); ok {
		r.errorf(deep.at, hintDepth, "%s", err)
		return nil, false
	} else if err != nil {
		at, message := whole, err.Error()
		if e, ok := errors.AsType[yaml.Error](err); ok {
			message = e.GetMessage()
			if t := e.GetToken(); t != nil {
				at = src.place(t)
			}
		}
		r.errorf(at, "indent with spaces, never with tabs, and put text with special characters in double quotes",
			"not valid YAML: %s", message)
		return nil, false
	}
	var body ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case body != nil:
			r.errorf(src.start(doc.Body), "keep everything in one document, without --- lines",
				"a second YAML document begins here")
			return nil, false
		default:
			body = doc.Body
		}
	}
	if body == nil {
		r.errorf(whole, "deploy/jumpgate.example.yaml shows what belongs here", "the file is empty")
		return nil, false
	}
	before := r.count()
	v := convert(r, src, body, 0)
	return v, r.count() == before
}

// lines returns a text without the mark that some editors begin it with, and
// with one kind of line end: every one that YAML knows counts as a line, also
// in excerpts.
func lines(text []byte) []byte {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
}

// syntax runs the library's lexer and parser. Both have panicked on malformed
// input in the past; a mistake in a file must not end a gateway that reloads.
func syntax(src *source) (file *ast.File, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the parser cannot make sense of it")
		}
	}()
	tokens := lexer.Tokenize(string(src.text))
	if err := checkDepth(src, tokens); err != nil {
		return nil, err
	}
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
}

// convert makes a value of a node of the syntax tree. Anchors, aliases, merge
// keys and tags are refused: they would let a small file mean a huge one.
func convert(r *report, src *source, node ast.Node, depth int) *value {
	v := &value{at: src.start(node)}
	if depth > maxDepth {
		r.errorf(v.at, hintDepth, "%s", tooDeep{})
		return v
	}
	switch node := node.(type) {
	case *ast.NullNode:
	case *ast.LiteralNode:
		v.kind, v.text, v.quoted = scalar, node.Value.Value, true
	case *ast.StringNode:
		v.kind, v.text = scalar, node.Value
		v.quoted = node.Token.Type == token.SingleQuoteType || node.Token.Type == token.DoubleQuoteType
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		v.kind, v.text = scalar, node.GetToken().Value
	case *ast.SequenceNode:
		v.kind = list
		for _, item := range node.Values {
			v.items = append(v.items, convert(r, src, item, depth+1))
		}
	case *ast.MappingNode:
		v.kind = mapping
		for _, pair := range node.Values {
			v.fields = append(v.fields, convertField(r, src, pair, depth))
		}
	case *ast.MappingValueNode:
		v.kind = mapping
		v.fields = []field{convertField(r, src, node, depth)}
	default:
		r.errorf(v.at, hintPlainYAML, "YAML's anchors, aliases and tags are not understood here")
	}
	return v
}

func convertField(r *report, src *source, pair *ast.MappingValueNode, depth int) field {
	f := field{at: src.place(pair.Key.GetToken())}
	switch key := pair.Key.(type) {
	case *ast.StringNode:
		f.key = key.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		f.key = pair.Key.GetToken().Value
	default:
		r.errorf(f.at, hintPlainYAML, "the name of a field must be a plain word")
	}
	f.value = convert(r, src, pair.Value, depth+1)
	return f
}

// tooDeep is the error about values nested deeper than maxDepth.
type tooDeep struct{ at place }

func (tooDeep) Error() string { return fmt.Sprintf("values are nested more than %d deep", maxDepth) }

// checkDepth finds brackets nested too deep, and dashes on one line, before
// the parser spends its time and stack on them.
func checkDepth(src *source, tokens token.Tokens) error {
	brackets, onLine, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			onLine, line = 0, t.Position.Line
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			brackets++
		case token.SequenceEndType, token.MappingEndType:
			brackets--
		case token.SequenceEntryType, token.MappingKeyType:
			onLine++
		}
		if brackets > maxDepth || onLine > maxDepth {
			return tooDeep{src.place(t)}
		}
	}
	return nil
}

// start returns where a value begins; a mapping begins with its first key.
func (src *source) start(node ast.Node) place {
	switch mapping := node.(type) {
	case nil:
		return place{src: src}
	case *ast.MappingValueNode:
		node = mapping.Key
	case *ast.MappingNode:
		if !mapping.IsFlowStyle && len(mapping.Values) > 0 {
			node = mapping.Values[0].Key
		}
	}
	return src.place(node.GetToken())
}

// place returns where a token begins.
func (src *source) place(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{src: src}
	}
	return place{src: src, line: t.Position.Line, column: max(t.Position.Column, 1)}
}

// firstInvalid returns the place of the first byte that is not UTF-8.
func firstInvalid(src *source) place {
	text := src.text
	for at := 0; at < len(text); {
		c, n := utf8.DecodeRune(text[at:])
		if c == utf8.RuneError && n == 1 {
			before := string(text[:at])
			start := strings.LastIndexByte(before, '\n') + 1
			return place{src: src, line: strings.Count(before, "\n") + 1,
				column: utf8.RuneCountInString(before[start:]) + 1}
		}
		at += n
	}
	return place{src: src}
}
