package moodle

import (
	"net/http"
	"strings"
	"testing"
)

func TestRequestSessionTakesTheFirstCookieThatPHPTakes(t *testing.T) {
	const other = "nqko2rp6r8dv3ateg59ehluhtb"
	tests := map[string]struct{ cookies, want string }{
		"none":                  {"", ""},
		"the one":               {"MoodleSession=" + testSID, testSID},
		"among others":          {"a=b; MoodleSession=" + testSID + "; MOODLEID1_=x", testSID},
		"the first of two":      {"MoodleSession=" + testSID + "; MoodleSession=" + other, testSID},
		"no second chance":      {"MoodleSession=deleted; MoodleSession=" + other, ""},
		"another site's":        {"MoodleSessionforum=" + testSID, ""},
		"what is no session id": {"MoodleSession=../../etc/passwd/aaaaaaaaaa", ""},
		"a quote in the first":  {`MoodleSession=a"b; MoodleSession=` + testSID, ""},
		"in quotes":             {`MoodleSession="` + testSID + `"`, ""},
		"an array":              {"MoodleSession[x]=1; MoodleSession=" + testSID, ""},
		"made an array":         {"MoodleSession=" + testSID + "; MoodleSession[]=1", ""},
		"no end of an index":    {"MoodleSession[x=1; MoodleSession=" + testSID + "; MoodleSession[", testSID},
		"what follows an index": {"MoodleSession[x]y=1; MoodleSession=" + testSID, ""},
		"half an index":         {"MoodleSession[x][y=1; MoodleSession=" + testSID, ""},
		"64 indexes":            {"MoodleSession" + strings.Repeat("[a]", 64) + "=1; MoodleSession=" + testSID, ""},
		"more than PHP takes":   {"MoodleSession[]=1; MoodleSession" + strings.Repeat("[a]", 65) + "=1; MoodleSession=" + testSID, testSID},
		"more, behind it":       {"MoodleSession=" + testSID + "; MoodleSession" + strings.Repeat("[]", 65) + "=1", ""},
		"more, without an end":  {"MoodleSession" + strings.Repeat("[a]", 64) + "[=1; MoodleSession=" + testSID, testSID},
		"a blank as an index":   {"MoodleSession[ ]=1; MoodleSession=" + testSID, ""},
		"without a value":       {"MoodleSession; MoodleSession=" + testSID, ""},
		"an empty one":          {"MoodleSession=; MoodleSession=" + testSID, ""},
		"escaped":               {"MoodleSession=%61" + testSID[1:], "a" + testSID[1:]},
		"escaped by PHP":        {"MoodleSession=" + testSID + "%2Cx", testSID + ",x"},
		"escaped badly":         {"MoodleSession=" + testSID + "%2", ""},
		"escaped twice":         {"MoodleSession=" + testSID + "%252C", ""},
		"an escaped line end":   {"MoodleSession=" + testSID + "%0d%0a", ""},
		"a blank behind it":     {"MoodleSession=" + testSID + " ;x=y", ""},
		"no blank between":      {"a=b;MoodleSession=" + testSID + ";c=d", testSID},
		"blanks before it":      {"a=b; \t MoodleSession=" + testSID, testSID},
		"behind what Go skips":  {"a b=\x01; =; ;MoodleSession=" + testSID, testSID},
		"another's array":       {"x[MoodleSession]=1; MoodleSession=" + testSID, testSID},
		"in small letters":      {"moodlesession=" + other + "; MoodleSession=" + testSID, testSID},
		"a comma":               {"a=b, MoodleSession=" + testSID, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := &http.Request{Header: http.Header{"Cookie": {tt.cookies}}}
			if n := testing.AllocsPerRun(10, func() { RequestSession(r, DefaultCookie) }); n != 0 && !strings.Contains(tt.cookies, "%") {
				t.Errorf("%v allocations", n)
			}
			if got := RequestSession(r, DefaultCookie); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRequestSessionReadsNamesAsPHPDoes(t *testing.T) {
	const other = "nqko2rp6r8dv3ateg59ehluhtb"
	for _, name := range []string{"MoodleSession.x", "MoodleSession x", "MoodleSession_x"} {
		r := &http.Request{Header: http.Header{"Cookie": {name + "=" + testSID, "MoodleSession_x=" + other}}}
		if got := RequestSession(r, "MoodleSession_x"); got != testSID {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestSetsSessionTakesTheLastCookieThatABrowserKeeps(t *testing.T) {
	const other = "nqko2rp6r8dv3ateg59ehluhtb"
	tests := map[string]struct {
		lines []string
		want  string
		ok    bool
	}{
		"none":                  {nil, "", false},
		"only others":           {[]string{"MOODLEID1_=x; path=/", "MoodleSessionforum=" + testSID}, "", false},
		"a new one":             {[]string{"MoodleSession=" + testSID + "; path=/; HttpOnly"}, testSID, true},
		"without attributes":    {[]string{"MoodleSession=" + testSID}, testSID, true},
		"the last of two":       {[]string{"MoodleSession=" + testSID + "; path=/", "MoodleSession=" + other + "; path=/"}, other, true},
		"deleted":               {[]string{"MoodleSession=deleted; expires=Thu, 01-Jan-1970 00:00:01 GMT; Max-Age=0; path=/"}, "", true},
		"set, then deleted":     {[]string{"MoodleSession=" + testSID, "MoodleSession=deleted; Max-Age=0"}, "", true},
		"what is no session id": {[]string{"MoodleSession=a%0d%0ab; path=/"}, "", true},
		"no pair":               {[]string{"MoodleSession"}, "", false},
		"escaped by PHP":        {[]string{"MoodleSession=" + testSID + "%2Cx; path=/"}, testSID + ",x", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, ok := SetsSession(http.Header{"Set-Cookie": tt.lines}, DefaultCookie)
			if got != tt.want || ok != tt.ok {
				t.Errorf("got %q, %v, want %q, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}
