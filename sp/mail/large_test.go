package mail_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime/quotedprintable"
	"runtime"
	"strings"
	"testing"
)

const (
	large = 10 << 20
	odd   = 2 << 20 // of those that show the same sooner
)

// repeated reads head and then unit again and again, size bytes in all.
func repeated(head, unit string, size int) io.Reader {
	return io.MultiReader(strings.NewReader(head), io.LimitReader(&cycle{unit: unit}, int64(size)))
}

type cycle struct {
	unit string
	at   int
}

func (c *cycle) Read(p []byte) (n int, _ error) {
	for n < len(p) {
		m := copy(p[n:], c.unit[c.at:])
		n, c.at = n+m, (c.at+m)%len(c.unit)
	}
	return n, nil
}

func typed(kind, encoding string) string {
	return "To: ada@example.edu\r\nContent-Type: " + kind + "\r\nContent-Transfer-Encoding: " + encoding + "\r\n\r\n"
}

// largeMails are of all sorts. Some have links.
func largeMails() map[string]struct {
	mail  io.Reader
	links bool
} {
	const text = "See https://forum.example.net/mod/forum/discuss.php?d=12&parent=3#p34, and more.\r\n"
	const tag = `<p class="x"><a href="https://forum.example.net/mod/forum/discuss.php?d=12&amp;parent=3#p34">Grüße</a></p>` + "\r\n"
	var quoted bytes.Buffer
	w := quotedprintable.NewWriter(&quoted)
	io.WriteString(w, strings.Repeat(tag, 10))
	w.Close()
	in64 := ""
	for rest := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(text, 57*3))); rest != ""; {
		n := min(76, len(rest))
		in64, rest = in64+rest[:n]+"\r\n", rest[n:]
	}
	type m = struct {
		mail  io.Reader
		links bool
	}
	return map[string]m{
		"text":             {repeated(typed("text/plain", "8bit"), text, large), true},
		"text in one line": {repeated(typed("text/plain", "8bit"), strings.TrimSpace(text)+" ", odd), true},
		"HTML":             {repeated(typed("text/html", "8bit"), tag, large), true},
		"HTML in one line": {repeated(typed("text/html", "8bit"), strings.TrimSpace(tag), odd), true},
		"quoted-printable": {repeated(typed("text/html; charset=utf-8", "quoted-printable"), quoted.String(), large), true},
		"base64":           {repeated(typed("text/plain", "base64"), in64, large), true},
		"an attachment": {repeated("Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\n"+text+"--a\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n",
			in64, large), true},
		"a word":                    {repeated(typed("text/plain", "7bit"), "https://forum.example.net/my/", odd), false},
		"an address":                {repeated(typed("text/html", "7bit")+`<a href="https://forum.example.net/my/`, "x", odd), false},
		"a picture":                 {repeated(typed("text/html", "7bit")+`<img src="data:image/png;base64,`, "AAAA\r\n", odd), false},
		"a comment":                 {repeated(typed("text/html", "7bit")+`<!--`, tag, odd), false},
		"a header":                  {repeated("", "Received: from a by b;\r\n\tMon\r\n", odd), false},
		"a field":                   {repeated("Subject: ", "x", odd), false},
		"no lines in base64":        {repeated(typed("text/plain", "base64"), strings.ReplaceAll(in64, "\r\n", ""), odd), true},
		"no lines in quoted":        {repeated(typed("text/plain", "quoted-printable"), "x", odd), false},
		"soft line breaks":          {repeated(typed("text/plain", "quoted-printable"), "=\r\n", odd), false},
		"empty lines in base64":     {repeated(typed("text/plain", "base64")+in64[:76]+"\r\n", "\r\n", odd), true},
		"empty lines after a link":  {repeated(typed("text/plain", "base64")+in64[:78*2], "\r\n", odd), true},
		"parts within parts":        {repeated("", "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n", odd), false},
		"parts":                     {repeated("Content-Type: multipart/mixed; boundary=a\r\n\r\n", "--a\r\n\r\n"+text, odd), true},
		"delimiters":                {repeated("Content-Type: multipart/mixed; boundary=a\r\n\r\n", "--a\r\n", odd), false},
		"less than":                 {repeated(typed("text/html", "7bit"), "<", odd), false},
		"signed":                    {repeated("DKIM-Signature: v=1\r\n"+typed("text/plain", "7bit"), text, odd), false},
		"a link over all the lines": {repeated(typed("text/html", "quoted-printable")+"<a href=3D\"https://forum.example.net/", "x=\r\n", odd), false},
	}
}

// TestALargeMailNeedsLittleMemory measures what is held while mails of 10 MB
// come by.
func TestALargeMailNeedsLittleMemory(t *testing.T) {
	for name, m := range largeMails() {
		t.Run(name, func(t *testing.T) {
			most := &heap{}
			most.start()
			in := &counted{Reader: m.mail, heap: most}
			out := &counter{}
			result, err := rewriter(t).Rewrite(out, in)
			if err != nil || result.Links > 0 != m.links || out.n < in.n {
				t.Errorf("%d bytes became %d with %d links: %v", in.n, out.n, result.Links, err)
			}
			if most.most > 1<<20 {
				t.Errorf("%d KiB are held", most.most>>10)
			}
		})
	}
}

// heap measures how much more is held than at the start.
type heap struct {
	next   int
	before uint64
	most   int64
}

func held() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func (h *heap) start() { h.before, h.next = held(), 1<<20 }

// at measures from time to time.
func (h *heap) at(n int) {
	if n >= h.next {
		h.next *= 2
		h.most = max(h.most, int64(held())-int64(h.before))
	}
}

type counted struct {
	io.Reader
	heap *heap
	n    int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	c.heap.at(c.n)
	return n, err
}

type counter struct{ n int }

func (c *counter) Write(p []byte) (int, error) {
	c.n += len(p)
	return len(p), nil
}

func TestALargeMailIsRelayedInLittleMemory(t *testing.T) {
	most, total := &heap{}, 0
	n := newNext(t, &nextServer{reads: func(n int) {
		total += n
		most.at(total)
	}})
	r := newRelay(t, n, nil)
	c := dial(t, r)
	c.does("", 220, "EHLO moodle.test", 250, "MAIL FROM:<>", 250, "RCPT TO:<ada@example.edu>", 250, "DATA", 354)
	most.start()
	w := c.DotWriter()
	if _, err := io.Copy(w, largeMails()["quoted-printable"].mail); err != nil {
		t.Fatal(err)
	}
	w.Close()
	c.does("", 250)
	// Others allocate while it is measured.
	if most.most > 6<<20 || total < large {
		t.Errorf("%d KiB are held for %d bytes", most.most>>10, total)
	}
}

func BenchmarkRewrite(b *testing.B) {
	for _, name := range []string{"text", "HTML", "quoted-printable", "base64", "an attachment"} {
		b.Run(fmt.Sprintf("%s of 10 MB", name), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(large)
			w := rewriter(b)
			for b.Loop() {
				b.StopTimer()
				mail := largeMails()[name].mail
				b.StartTimer()
				if _, err := w.Rewrite(io.Discard, mail); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What a learner posts, each subscriber gets: it must not cost more than the
// square of a word, or a header, which allocations show without a clock.
func TestMailsThatAreMadeToBeSlowAreNot(t *testing.T) {
	for name, mail := range map[string]string{
		"addresses in one word": "\r\n" + strings.Repeat(strings.Repeat("a://中", 1000)+"\r\n", 128),
		"links in one word":     "\r\n" + strings.Repeat(strings.Repeat("https://evil.example/中", 300)+"\r\n", 128),
		"fields":                "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n"+strings.Repeat("a:\r\n", 50000)+"\r\n", 5),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, result := rewrite(t, []byte(mail)); result.Links != 0 {
			t.Errorf("%s: %d links", name, result.Links)
		}
		runtime.ReadMemStats(&after)
		if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 160 {
			t.Errorf("%s: %d MiB", name, used)
		} else {
			t.Logf("%s: %d MiB", name, used)
		}
	}
}
