package web

import (
	"errors"
	"net/http"
	"time"

	"jumpgate/gateway/proxy"
)

// errNoAnswer is what becomes of a jump or landing that Moodle was to carry out
// and did not.
var errNoAnswer = errors.New("the Moodle behind does not answer")

// guardedJump lets Moodle carry out the jumps that are allowed, and its answer
// out only if it is what was decided.
func (h *Handler) guardedJump(site *Site) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		a, target := site.Guard.Jump(r)
		if target == "" {
			h.answer(w, r, site, "jump", a, start)
			return
		}
		answered := false
		defer func() { // also if the proxy breaks off
			if !answered { // and UpstreamFailed has told the learner
				a.Err = errNoAnswer
				site.Trail.Note(h.event(r, site, "jump", outcomeOf(a), a, start))
			}
		}()
		site.Proxy.Serve(w, asking(r, target), func(w http.ResponseWriter, r *http.Request, res *http.Response) bool {
			answered = true
			a := site.Guard.Check(a, res)
			if !a.Passed {
				for _, cookie := range res.Header["Set-Cookie"] {
					w.Header().Add("Set-Cookie", cookie)
				}
			}
			return h.answer(w, r, site, "jump", a, start)
		})
	}
}

// publicKey serves the certificate of a site that Moodle speaks MNet for.
func publicKey(behind *proxy.Proxy, target string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			writeProblem(w, r, wrongMethod, "", nil)
			return
		}
		behind.ServeHTTP(w, asking(r, target))
	}
}

// asking returns r with another target and without a body.
func asking(r *http.Request, target string) *http.Request {
	out := r.WithContext(r.Context())
	out.RequestURI = target
	out.Body, out.ContentLength, out.TransferEncoding = http.NoBody, 0, nil
	return out
}
