package mail_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"strings"
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

// FuzzEncodings looks for texts that come out of a transfer encoding as something
// else than without one.
func FuzzEncodings(f *testing.F) {
	for _, text := range []string{
		"https://forum.example.net/mod/forum/discuss.php?d=12#p34.\n(https://forum.example.net/my/) and on\n",
		`<p>Grüße <a href="https://forum.example.net/mod/forum/discuss.php?d=12&amp;parent=3">a</a><a href='https://forum.example.net/'>` + "\n",
		strings.Repeat("<a href=https://forum.example.net/>=", 20),
	} {
		f.Add(text, uint8(19), true, true)
		f.Add(text, uint8(3), false, false)
	}
	f.Fuzz(func(t *testing.T, text string, width uint8, html, crlf bool) {
		end, kind := "\n", "text/plain"
		if crlf {
			end = "\r\n"
		}
		if html {
			kind = "text/html"
		}
		for line := range strings.Lines(text) {
			if len(line) > 250 {
				t.Skip() // without an encoding, lines have a limit
			}
		}
		through := func(encoding, body string) (string, int) {
			head := "Content-Type: " + kind + end + "Content-Transfer-Encoding: " + encoding + end + end
			out, result := rewrite(t, []byte(head+body))
			return strings.TrimPrefix(string(out), head), result.Links
		}
		want, links := through("binary", text)

		var encoded strings.Builder
		w := quotedprintable.NewWriter(&encoded)
		w.Binary = true
		io.WriteString(w, text)
		w.Close()
		body, n := through("quoted-printable", strings.ReplaceAll(encoded.String(), "\r\n", end))
		got, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
		if err != nil || string(got) != want || n != links {
			t.Errorf("quoted-printable: %v, %d links, not %d\n got %q\nwant %q\n%s", err, n, links, got, want, body)
		}
		for line := range strings.SplitSeq(body, end) {
			if len(line) > 76 {
				t.Errorf("a line of %d characters: %s", len(line), body)
			}
		}

		size := (int(width) + 1) * 4
		encoded.Reset()
		for rest := base64.StdEncoding.EncodeToString([]byte(text)); rest != ""; {
			n := min(size, len(rest))
			encoded.WriteString(rest[:n] + end)
			rest = rest[n:]
		}
		body, n = through("base64", encoded.String())
		got, err = base64.StdEncoding.DecodeString(body)
		if err != nil || string(got) != want || n != links {
			t.Errorf("base64: %v, %d links, not %d\n got %q\nwant %q\n%s", err, n, links, got, want, body)
		}
		for line := range strings.SplitSeq(body, end) {
			if len(line) > max(size, 76) {
				t.Errorf("a line of %d characters: %s", len(line), body)
			}
		}
	})
}
