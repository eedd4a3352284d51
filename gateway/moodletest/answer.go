package moodletest

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
)

// redirect sends the browser to an absolute URL, as Moodle's redirect().
func (q *request) redirect(target string) {
	if !q.finish() {
		return
	}
	h := q.w.Header()
	h.Set("Expires", "Thu, 19 Nov 1981 08:52:00 GMT")
	h.Set("Cache-Control", "no-store, no-cache, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("X-Redirect-By", "Moodle")
	h.Set("Location", headerURL(target))
	q.write(http.StatusSeeOther, "redirect.html", map[string]any{"URL": target})
}

// headerURL escapes what must not stand in a header; everything else is left
// as it came, as PHP does.
func headerURL(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '<' || c == '>' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// unavailable is what a Moodle shows that cannot reach its session store.
func (q *request) unavailable() {
	q.s = newSession(q.now(), q.ip()) // of nobody, and not kept
	q.w.Header().Set("Retry-After", "5")
	q.write(http.StatusServiceUnavailable, "error.html", map[string]any{
		"Heading": "Error", "Message": "This site cannot reach its session store. Please try again in a moment.",
	})
}

// render sends a page of the site to the browser.
func (q *request) render(status int, template string, data map[string]any) {
	q.s.sesskey()
	q.s.data().unset("justloggedin")
	q.s.noteNavigation(q.now())
	if u, _ := q.users.byID(q.s.currentID()); !u.Admin {
		addAccess(q.s.user(), q.now())
	}
	if !q.finish() {
		return
	}
	h := q.w.Header()
	h.Set("X-Frame-Options", "sameorigin")
	if q.s.loggedIn() && q.r.URL.Path != "/login/index.php" {
		h.Set("Cache-Control", "private, pre-check=0, post-check=0, max-age=0, no-transform")
		h.Set("Expires", "")
	} else {
		h.Set("Cache-Control", "no-store, no-cache, must-revalidate, no-transform")
		h.Set("Expires", "Mon, 20 Aug 1969 09:23:00 GMT")
	}
	h.Set("Pragma", "no-cache")
	q.write(status, template, data)
}

// fail is Moodle's page for an exception: a 404 with a sentence.
func (q *request) fail(message string) {
	q.render(http.StatusNotFound, "error.html", map[string]any{"Heading": "Error", "Message": message})
}

// write sends a page; the answer is complete before its first byte leaves.
func (q *request) write(status int, template string, data map[string]any) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, template, view{q, data}); err != nil {
		http.Error(q.w, "a page could not be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	h := q.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", "en")
	q.w.WriteHeader(status)
	q.w.Write(b.Bytes())
}
