package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway/audit"
)

// TestSuggestionsHoldNothingThatWasNotLookedAt suggests by a trail of two sites
// into which strangers have written what they like.
func TestSuggestionsHoldNothingThatWasNotLookedAt(t *testing.T) {
	dir := t.TempDir()
	trail, err := audit.Open(audit.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []audit.Event{
		{Site: "https://b.test", Target: "https://wiki.test/wiki/A", Rule: "redirect-foreign"},
		{Site: "https://a.test", Target: "https://once.test/", Rule: "redirect-foreign"},
		{Site: "https://a.test", Target: "https://wiki.test/wiki/A/x%22", Rule: "redirect-foreign"},
		{Site: "https://a.test", Target: "https://wiki.test/wiki/B", Rule: "redirect-foreign", Count: 7},
		{Site: "https://a.test", Target: "https://*.evil.test", Rule: "redirect-malformed"},
		{Site: "https://a.test", Target: "https://a.test", Rule: "redirect-malformed"},
		{Site: "https://a.test", Target: "javascript:", Rule: "redirect-scheme"},
		{Site: "https://a.test", Target: "https://evil.test\"\n    - https://*.com\x1b[2J/", Rule: "redirect-foreign"},
		{Site: "https://a.test", Target: "", Rule: "redirect-malformed"},
	} {
		e.Kind = audit.KindRedirect
		trail.Note(e)
	}
	trail.Note(audit.Event{Kind: audit.KindDecision, Site: "https://a.test", Target: "https://decision.test/"})
	if err := trail.Close(); err != nil {
		t.Fatal(err)
	}
	const head = `# for the site https://a.test
redirects:
  allow:
`
	for _, test := range []struct {
		command auditSuggestCommand
		want    string
	}{
		{auditSuggestCommand{}, head + `    - "https://wiki.test" # 2×
    - "https://once.test" # 1×
    # no entry can allow: 5×; jumpgate audit query --kind redirect shows them

# for the site https://b.test
redirects:
  allow:
    - "https://wiki.test" # 1×
# 7 more came too fast to be recorded one by one.
`},
		{auditSuggestCommand{Site: "https://a.test/", Paths: true}, head + `    - "https://wiki.test/wiki" # 2×
    - "https://once.test" # 1×
    # no entry can allow: 5×; jumpgate audit query --kind redirect shows them
# 7 more came too fast to be recorded one by one.
`},
		{auditSuggestCommand{Site: "https://c.test"}, "# Nothing was recorded that the configuration does not allow.\n"},
	} {
		test.command.Dir = dir
		var out strings.Builder
		if err := test.command.Run(&terminal{ctx: t.Context(), stdout: &out, stderr: t.Output()}); err != nil {
			t.Fatal(err)
		}
		got := regexp.MustCompile(`, last on \d{4}-\d\d-\d\d`).ReplaceAllString(out.String(), "")
		got = regexp.MustCompile(` +# (\d+×)`).ReplaceAllString(got, " # $1")
		if _, after, ok := strings.Cut(got, "that you need.\n\n"); ok {
			got = after
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", test.command, diff)
		}
	}
}
