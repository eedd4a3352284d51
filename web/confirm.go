package web

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"time"

	"jumpgate/gateway"
	"jumpgate/idp"
)

//go:embed templates/confirm.html
var confirmHTML string

var confirmTemplate = template.Must(template.New("confirm").Parse(confirmHTML))

// writeConfirm asks a learner whether a jump shall take place. The form leads to
// us, and from here to that peer: browsers apply form-action to the redirect
// too. Its Referrer-Policy lets older browsers say that it was our page.
func writeConfirm(w http.ResponseWriter, r *http.Request, site gateway.Wwwroot, a idp.Answer) {
	var page bytes.Buffer
	err := confirmTemplate.Execute(&page, map[string]any{
		"Host": a.Peer.Wwwroot.Host() + a.Peer.Wwwroot.Path(), "Label": a.Peer.Name, "Name": a.Confirm.Name, "Days": int(idp.ConfirmedLife / (24 * time.Hour)),
		"Action": site.String() + idp.ConfirmPath, "Ticket": a.Confirm.Ticket, "Home": site.String(),
		"Details": []detail{{"page", a.Target.URL()}, {"account", legible(a.Username)}, {"request", RequestID(r)}},
		"Style":   template.CSS(style),
	})
	if err != nil { // the template and its data are our own
		panic(err)
	}
	guardPage(w.Header())
	w.Header().Set("Content-Security-Policy", contentPolicy("'self' "+a.Peer.Wwwroot.Origin()))
	w.Header().Set("Referrer-Policy", "same-origin")
	writePage(w, r, http.StatusOK, page.Bytes())
}

// formTime bounds what a form of ours may take to arrive, and be answered.
const formTime = time.Minute

// form is a handler that takes a form of ours.
func form(site *Site, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			unread(w, r)
			w.Header().Set("Allow", http.MethodPost)
			writeProblem(w, r, wrongMethod, site.Wwwroot.String(), nil)
			return
		}
		// An error means that this is a test.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(formTime))
		next.ServeHTTP(w, r)
	})
}

// confirm takes the answers of learners who were asked.
func (h *Handler) confirm(site *Site) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		h.answer(w, r, site, "confirm", site.IDP.Confirm(w, r), start)
	}
}
