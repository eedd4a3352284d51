package mail_test

import (
	"bytes"
	"testing"
)

// FuzzRewrite looks for mails that change although no link did, in which
// something else changed, or that change once more when they come by again.
func FuzzRewrite(f *testing.F) {
	for _, mail := range corpus(f) {
		if len(mail) < 16<<10 {
			f.Add(mail)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out, result := rewrite(t, in)
		if result.Links == 0 != bytes.Equal(in, out) {
			t.Fatalf("%d links were changed: %q became %q", result.Links, in, out)
		}
		if again, twice := rewrite(t, out); twice.Links != 0 || !bytes.Equal(again, out) {
			t.Fatalf("a second time %d links are changed: %q became %q", twice.Links, out, again)
		}
	})
}
