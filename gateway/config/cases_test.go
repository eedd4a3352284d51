package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
)

func TestCases(t *testing.T) {
	testDir(t)
	writeFile(t, "cases.yaml", `cases:
  - target: /x
    expect: allow
  - {name: A trick, target: "/\t/evil.example", peer: sp.test, user: ada, day: 2027-01-31, expect: refuse, rule: control-byte}
  - {target: "", expect: allow, rule: empty, location: "https://sp.test/"}
`)
	got, err := LoadCases("cases.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := []Case{
		{Position: Position{File: "cases.yaml", Line: 2, Column: 5}, Target: "/x", Allow: true},
		{Position: Position{File: "cases.yaml", Line: 4, Column: 5}, Name: "A trick", Target: "/\t/evil.example", Peer: "sp.test", User: "ada",
			Day: time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC), Rule: gateway.RuleControlByte},
		{Position: Position{File: "cases.yaml", Line: 5, Column: 5}, Allow: true, Rule: gateway.RuleEmpty, Location: "https://sp.test/"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCasesThatCannotBeMeant(t *testing.T) {
	tests := []struct{ name, file, want, hint string }{
		{"nothing", "", "cases.yaml: the file is empty", ""},
		{"no cases", "case: []", `cases.yaml:1:1: unknown field "case"`, `did you mean "cases"?`},
		{"none at all", "cases: []", `cases.yaml:1:8: "cases" is empty: nothing would be tested`, ""},
		{"a text", "cases: all", `cases.yaml:1:8: "cases" must be a list`, ""},
		{"no target", "cases: [{expect: allow}]", `a case has no "target"`, "target: "},
		{"no expectation", "cases: [{target: /x}]", `a case has no "expect"`, "expect: allow, or expect: refuse"},
		{"another expectation", "cases: [{target: /x, expect: deny}]", `unknown expect "deny"`, "write one of: allow, refuse"},
		{"another field", "cases: [{target: /x, expect: allow, rules: path}]", `unknown field "rules"`, `did you mean "rule"?`},
		{"another rule", "cases: [{target: /x, expect: refuse, rule: backslsh}]", `there is no rule "backslsh"`, `did you mean "backslash"?`},
		{"a rule that never refuses", "cases: [{target: /x, expect: refuse, rule: path}]", "the rule path never decides to refuse", ""},
		{"a rule that never allows", "cases: [{target: /x, expect: allow, rule: backslash}]", "the rule backslash never decides to allow", ""},
		{"an end of what is refused", "cases: [{target: /x, expect: refuse, location: 'https://a'}]", "what is refused ends nowhere", ""},
		{"a day that is none", "cases: [{target: /x, expect: allow, day: 2027-02-30}]", `"day" must be a day, not "2027-02-30"`, "2027-01-31"},
		{"a list for a target", "cases: [{target: [/x], expect: allow}]", `"target" must be a single value, not a list`, ""},
		{"twice the same", "cases: [{target: /x, target: /y, expect: allow}]", `"target" is given twice`, ""},
	}
	testDir(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			writeFile(t, "cases.yaml", test.file)
			_, err := LoadCases("cases.yaml")
			if err == nil {
				t.Fatal("accepted")
			}
			message, hint := describe(err)
			if !strings.Contains(message, test.want) || !strings.Contains(hint, test.hint) || hint == "\n" {
				t.Errorf("message %s\nhint %s", message, hint)
			}
		})
	}
	if _, err := LoadCases("missing.yaml"); err == nil || !strings.Contains(err.Error(), "cannot read the cases") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// FuzzLoadCases looks for a file that is read and says nothing, or that panics.
func FuzzLoadCases(f *testing.F) {
	f.Add("cases: [{target: /x, expect: allow}]")
	f.Add("cases:\n  - {target: \"\\t\", expect: refuse, rule: control-byte, day: 2027-01-31}\n")
	f.Add("cases: {}")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		writeFile(t, dir+"/cases.yaml", text)
		cases, err := LoadCases(dir + "/cases.yaml")
		if err == nil && len(cases) == 0 {
			t.Errorf("no cases and no error")
		}
	})
}
