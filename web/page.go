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

// contentPolicy lets our pages have their own style and nothing else.
var contentPolicy = func() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}()

// detail is a line for the administrator below a page.
type detail struct{ Name, Value string }

// writeProblem answers with a page in plain words. home is the wwwroot that
// the page links to, or empty.
func writeProblem(w http.ResponseWriter, r *http.Request, p problem, home string, details []detail) {
	h := w.Header()
	details = append(details,
		detail{"request", RequestID(r)},
		detail{"time", time.Now().UTC().Format(time.RFC3339)})
	var page bytes.Buffer
	err := pageTemplate.Execute(&page, map[string]any{
		"Status": p.Status, "Title": p.Title, "Text": p.Text, "Advice": p.Advice,
		"Home": home, "Details": details, "Style": template.CSS(style),
	})
	if err != nil { // the template and its data are our own
		panic(err)
	}
	guardPage(h)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(page.Len()))
	h.Set("Content-Security-Policy", contentPolicy)
	switch p.Status {
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		h.Set("Retry-After", "30")
	case http.StatusTooManyRequests:
		if h.Get("Retry-After") == "" {
			h.Set("Retry-After", "300")
		}
	}
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		w.Write(page.Bytes())
	}
}
