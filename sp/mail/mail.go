// Package mail makes the links of a forum's mails lead through the home of
// who gets them: a link to a page of the site becomes a jump link of that home,
// and everything else stays byte for byte as it was.
//
// The rewriter knows mails and links, and nothing of how mails travel; the relay
// knows SMTP, and nothing of what is in a mail.
//
// Mails are taken apart by hand, in the bytes in which they came: go-message
// reads and writes the same mail in other words (line ends, folding, preambles,
// the lines of quoted-printable). The tests use it to read what came out.
package mail

import (
	"bufio"
	"fmt"
	"io"

	"jumpgate/gateway"
)

// Rewriter rewrites mails of a site for people of one home. Several goroutines
// may use it at once.
type Rewriter struct {
	site *gateway.Peer // ourselves, as links name us
	home *gateway.Peer
}

// NewRewriter returns what rewrites mails of a site, known by its wwwroot and
// aliases, for people of home.
func NewRewriter(site gateway.Wwwroot, aliases []gateway.Wwwroot, home *gateway.Peer) *Rewriter {
	return &Rewriter{site: &gateway.Peer{Wwwroot: site, Aliases: aliases, Application: gateway.Moodle}, home: home}
}

// Result says what became of a mail.
type Result struct {
	Links     int    // that were changed
	Untouched string // why the mail was left as it was; empty if nothing forbade to change it
}

// Reasons to leave a whole mail alone.
const (
	UntouchedSigned    = "signed"    // a signature of a mail server (DKIM, ARC) covers it
	UntouchedMalformed = "malformed" // its header is not one
)

// Rewrite copies one mail (RFC 5322) from src to dst and changes its links on
// the way. It needs less than 1 MiB, however large the mail is. A mail that
// cannot be read to its end is a *ReadError; what was read has been written.
func (w *Rewriter) Rewrite(dst io.Writer, src io.Reader) (Result, error) {
	m := &message{jump: w.jump, in: bufio.NewReaderSize(src, maxPiece), out: bufio.NewWriterSize(dst, maxPiece), top: true, inHeader: true}
	readErr := m.copy()
	if err := m.out.Flush(); err != nil {
		return m.result, fmt.Errorf("writing the mail: %w", err)
	}
	return m.result, readErr
}

// ReadError is a mail that could not be read to its end.
type ReadError struct{ Err error }

func (e *ReadError) Error() string { return "reading the mail: " + e.Err.Error() }

func (e *ReadError) Unwrap() error { return e.Err }

// Bounds of what is kept of a mail.
const (
	maxPiece  = 64 << 10  // of a line that is looked at as a whole
	maxHeld   = 128 << 10 // of lines that a link may go on in
	lineCost  = 100       // of each of them, about
	maxHeader = 256 << 10 // of a mail or a part
	maxLink   = 8 << 10   // as it is written: a wantsurl has 2,048 bytes, which entities make longer
	maxDepth  = 32        // of parts within parts
	maxLine   = 998       // that a line may have without its end (RFC 5322, section 2.1.1)
)

// jump returns the jump link for a link, if that is one to a page of the site.
// Links to a home that lives below the site stay, and so do those to bare pages.
func (w *Rewriter) jump(link string) (string, bool) {
	page, rule := gateway.ParseTarget(w.site, link)
	if rule != gateway.RulePeerURL || bare(page) {
		return "", false
	}
	if _, rule := gateway.ParseTarget(w.home, link); rule == gateway.RulePeerURL && len(w.home.Wwwroot.Path()) > len(w.site.Wwwroot.Path()) {
		return "", false
	}
	return gateway.JumpLink(w.home.Wwwroot, w.home.Application, w.site.Wwwroot, page), true
}
