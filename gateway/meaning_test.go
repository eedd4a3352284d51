package gateway_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"

	"jumpgate/gateway"
)

// TestEveryRuleHasOneMeaning reads the rules from the source: one that is added
// there and not explained fails here.
func TestEveryRuleHasOneMeaning(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "rule.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var written []gateway.Rule
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			for _, value := range spec.Values {
				if lit, ok := value.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					name, err := strconv.Unquote(lit.Value)
					if err != nil {
						t.Fatal(err)
					}
					written = append(written, gateway.Rule(name))
				}
			}
		}
		return true
	})
	var explained []gateway.Rule
	for _, m := range gateway.Rules() {
		if m.Meaning == "" || m.About == "" {
			t.Errorf("%s has no meaning", m.Rule)
		}
		if slices.Contains(explained, m.Rule) {
			t.Errorf("%s is explained twice", m.Rule)
		}
		explained = append(explained, m.Rule)
	}
	if len(written) < 40 {
		t.Fatalf("only %d rules are in the source", len(written))
	}
	for _, rule := range written {
		if !slices.Contains(explained, rule) {
			t.Errorf("%s is not explained", rule)
		}
	}
	for _, rule := range explained {
		if !slices.Contains(written, rule) {
			t.Errorf("%s is explained and is no rule", rule)
		}
		if rule.Meaning() == "" {
			t.Errorf("%s has no meaning by its name", rule)
		}
	}
	if got := gateway.Rule("no-such-rule").Meaning(); got != "" {
		t.Errorf("what is no rule means %q", got)
	}
}
