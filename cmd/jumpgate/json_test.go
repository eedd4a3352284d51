package main

import (
	"encoding/json"
	"strings"
	"testing"

	"jumpgate/gateway/store"
)

func TestJSONHoldsNothingThatATerminalObeys(t *testing.T) {
	for hostile, want := range map[string]string{
		"a\x7fb":           `a\u007fb`,
		"a\u009b2Jb":       `a\u009b2Jb`,
		"a\u202eb\u2066":   `a\u202eb\u2066`,
		"\ufeffa\u200bb":   `\ufeffa\u200bb`,
		"a\U000e0041b":     `a\udb40\udc41b`,
		"a\x1b[31m\u2028b": `a\u001b[31m\u2028b`,
		"a\xffb":           `a\ufffdb`,
		"<b>&ünï 😀\"\\":    `<b>&ünï 😀\"\\`,
	} {
		lines := func(print func(*strings.Builder) error) {
			t.Helper()
			var b strings.Builder
			if err := print(&b); err != nil || !strings.Contains(b.String(), want) || strings.Count(b.String(), "\n") != 1 {
				t.Errorf("%q becomes %q, %v", hostile, b.String(), err)
			}
			if !json.Valid([]byte(b.String())) {
				t.Errorf("%q becomes %q, which is no JSON", hostile, b.String())
			}
		}
		lines(func(b *strings.Builder) error { return encodeJSON(b, store.LogRecord{Info: hostile}) })
		lines(func(b *strings.Builder) error { return writeJSON(b, []store.Course{{FullName: hostile}}) })
		lines(func(b *strings.Builder) error { return jsonLines(b)(verdict{Target: hostile}) })
		lines(func(b *strings.Builder) error {
			return sessionListCommand{JSON: true}.print(&terminal{stdout: b}, []store.PeerSession{{Username: hostile}})
		})
	}
}
