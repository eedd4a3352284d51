package sp

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"jumpgate/gateway"
)

// marks are what a browser remembers of the last minutes: the pages from which
// it was sent home, and that its learner has logged out. Who comes back to a
// page without being logged in (the home has no session for them, is down or
// refuses them; the landing failed; Moodle's cookie was not kept) is asked, and
// sent nowhere by itself.
//
// They are not signed. Somebody who can write them can bring about a question.
type marks []mark

type mark struct {
	of string // pageMark, or loggedOut
	at int64  // Unix seconds
}

const (
	markLife = 5 * time.Minute
	// maxMarks bounds how often a browser is sent home within markLife, whatever
	// becomes of the addresses of pages on the way.
	maxMarks = 8
	// markKept is how long the browser has the cookie: while a page that asks is
	// open, it shows that the browser keeps cookies.
	markKept = 24 * time.Hour

	loggedOut    = "out"
	maxMark      = 12 // bytes
	markAlphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
)

// pageMark stands for a page, whatever its fragment.
func pageMark(page gateway.Target) string {
	path, _, _ := strings.Cut(page.String(), "#")
	sum := sha256.Sum256([]byte(path))
	return hex.EncodeToString(sum[:maxMark/2])
}

// parseMarks reads the value of the cookie. Gateways may have clocks that
// differ, so a mark from the time to come counts too.
func parseMarks(value string, now time.Time) marks {
	var all marks
	for text := range strings.SplitSeq(value, "-") {
		at, of, ok := strings.Cut(text, ".")
		seconds, err := strconv.ParseInt(at, 10, 64)
		life := int64(markLife / time.Second)
		if !ok || err != nil || of == "" || len(of) > maxMark || strings.Trim(of, markAlphabet) != "" || seconds <= now.Unix()-life || seconds >= now.Unix()+life {
			continue
		}
		if all = append(all, mark{of, seconds}); len(all) == maxMarks {
			break
		}
	}
	return all
}

// String is the value of the cookie.
func (m marks) String() string {
	var texts []string
	for _, one := range m {
		texts = append(texts, strconv.FormatInt(one.at, 10)+"."+one.of)
	}
	return strings.Join(texts, "-")
}

func (m marks) has(of string) bool {
	return slices.ContainsFunc(m, func(one mark) bool { return one.of == of })
}

func (m marks) full() bool { return len(m) >= maxMarks }

func (m marks) without(of string) marks {
	return slices.DeleteFunc(slices.Clone(m), func(one mark) bool { return one.of == of })
}

// marks returns what a request's cookie says.
func (b *Bounces) marks(r *http.Request) marks {
	cookie, err := r.Cookie(b.markName())
	if err != nil {
		return nil
	}
	return parseMarks(cookie.Value, b.Homes.Now())
}

func (b *Bounces) markName() string { return b.Homes.Site.CookieName("bounce") }

// mark returns the cookie with one more mark, if it is not empty. The oldest
// makes room.
func (b *Bounces) mark(m marks, of string) *http.Cookie {
	if of != "" {
		m = append(m.without(of), mark{of, b.Homes.Now().Unix()})
		m = m[max(0, len(m)-maxMarks):]
	}
	value := m.String()
	if value == "" {
		value = "0"
	}
	return &http.Cookie{
		Name: b.markName(), Value: value, Path: "/", MaxAge: int(markKept / time.Second),
		HttpOnly: true, Secure: b.Homes.Site.Scheme() == "https", SameSite: http.SameSiteLaxMode,
	}
}
