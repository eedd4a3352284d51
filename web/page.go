package web

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"strconv"
	"time"
)

//go:embed templates/style.css
var style string

//go:embed templates/page.html
var pageHTML string

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// contentPolicy lets our pages have their own style, forms that lead where
// forms says, and nothing else.
func contentPolicy(forms string) string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action " + forms + "; frame-ancestors 'none'"
}

var problemPolicy = contentPolicy("'none'") // problems have no forms

// detail is a line for the administrator below a page.
type detail struct{ Name, Value string }

// writeProblem answers with a page in plain words. home is the wwwroot that
// the page links to, or empty.
func writeProblem(w http.ResponseWriter, r *http.Request, p problem, home string, details []detail) {
	writeRetry(w, r, p, "", home, details)
}

// writeRetry is writeProblem with an address by which to try again, or "".
func writeRetry(w http.ResponseWriter, r *http.Request, p problem, again, home string, details []detail) {
	details = append(details,
		detail{"request", RequestID(r)},
		detail{"time", time.Now().UTC().Format(time.RFC3339)})
	var page bytes.Buffer
	err := pageTemplate.Execute(&page, map[string]any{
		"Status": p.Status, "Title": p.Title, "Text": p.Text, "Advice": p.Advice, "Again": again,
		"Home": home, "Details": details, "Style": template.CSS(style),
	})
	if err != nil { // the template and its data are our own
		panic(err)
	}
	h := w.Header()
	guardPage(h)
	h.Set("Content-Security-Policy", problemPolicy)
	switch p.Status {
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		h.Set("Retry-After", "30")
	case http.StatusTooManyRequests:
		if h.Get("Retry-After") == "" {
			h.Set("Retry-After", "300")
		}
	}
	writePage(w, r, p.Status, page.Bytes())
}

// writePage answers with a page of ours, whose headers are set.
func writePage(w http.ResponseWriter, r *http.Request, status int, page []byte) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(page)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(page)
	}
}
