package web

import (
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"jumpgate/gateway"
	"jumpgate/gateway/moodle"
	"jumpgate/idp"
	"jumpgate/sp"
)

const publicKeyPath = "/mnet/publickey.php"

// ourPaths are the addresses below a wwwroot that never reach the Moodle
// behind, in any spelling that a web server there would take for them. A
// Mahara's jump is among them: the home may have been one, and peers that
// think it still is one send people there.
var ourPaths = []string{
	gateway.Moodle.JumpPath(),
	gateway.Mahara.JumpPath(),
	gateway.Moodle.LandPath(),
	gateway.Moodle.RPCPath(),
	publicKeyPath,
	idp.CallbackPath,
	idp.ConfirmPath,
	sp.SwitchPath,
	sp.HomePath,
	linkPath,
	authPath,
	logoutPath,
	sp.AuthorizePath,
	sp.TokenPath,
	sp.UserInfoPath,
}

// isOurs reports whether a path means one of ours, or leads to the plugin by which
// we log learners in. Nobody else has any business there: its logout.php ends, for
// who just asks, all sessions that Shibboleth's own software has not numbered, and
// redirects anywhere (source).
func (s *Site) isOurs(requested string) bool {
	return ourPath(s.Wwwroot, requested) != "" ||
		s.Landings.Logins != nil && containsFold(requested, "shibboleth") && meant(s.Wwwroot, requested, []string{moodle.HeaderLoginPath}) != ""
}

// ourPath returns which of ours a path means, or "".
func ourPath(root gateway.Wwwroot, requested string) string {
	if !containsFold(requested, "mnet") && !containsFold(requested, "xmlrpc") && !containsFold(requested, "jumpgate") {
		return "" // nearly everything: no allocation
	}
	return meant(root, requested, ourPaths)
}

// meant returns which of some paths a path means, or "". PHP takes further segments
// (jump.php/x), web servers merge slashes, and some file systems ignore case,
// dots and blanks at the end, and which slash it is, so all of these are ours
// too, to be refused.
func meant(root gateway.Wwwroot, requested string, paths []string) string {
	cleaned := strings.ToLower(path.Clean("/" + gateway.PlainPath(strings.ReplaceAll(requested, `\`, "/"))))
	below, ok := strings.CutPrefix(cleaned, strings.ToLower(root.Path()))
	if !ok {
		return ""
	}
	for _, p := range paths {
		if rest, ok := strings.CutPrefix(below, p); ok && (rest == "" || rest[0] == '/') {
			return p
		}
	}
	return ""
}

// wellFormedTarget reports whether the address of a request is one that we and
// the server behind read alike: a path and a query. Go puts what it makes of
// "x:http://host/path" elsewhere than into the path and leaves "#" in it; other
// servers do not.
func wellFormedTarget(r *http.Request) bool {
	if r.URL.Opaque != "" || !strings.HasPrefix(r.URL.Path, "/") {
		return false
	}
	for i := range len(r.RequestURI) {
		if c := r.RequestURI[i]; c <= 0x20 || c == 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// unread prepares an answer that does not wait for the body of its request,
// which net/http would read, without a limit of time, to keep the connection.
func unread(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 {
		return
	}
	w.Header().Set("Connection", "close")
	rc := http.NewResponseController(w)
	// Errors mean that this is HTTP/2, which never waits, or a test.
	_ = rc.EnableFullDuplex()                               // answer before
	_ = rc.SetReadDeadline(time.Now().Add(2 * time.Second)) // and not long after
}

// withoutBody is a handler that never looks at the body of a request.
func withoutBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		unread(w, r)
		next.ServeHTTP(w, r)
	})
}

// containsFold reports whether s contains the lower-case ASCII word.
func containsFold(s, word string) bool {
	for i := 0; i+len(word) <= len(s); i++ {
		if s[i]|0x20 == word[0] && strings.EqualFold(s[i:i+len(word)], word) {
			return true
		}
	}
	return false
}

// router serves our own addresses of a site.
func (h *Handler) router(site *Site, jump http.Handler) http.Handler {
	root := site.Wwwroot.Path()
	m := mux.NewRouter().SkipClean(true)
	key := site.PublicKey
	if site.Guard != nil {
		key = publicKey(site.Proxy, root+publicKeyPath)
	}
	for _, application := range []gateway.Application{gateway.Moodle, gateway.Mahara} {
		m.Path(root+application.JumpPath()).Methods(http.MethodGet, http.MethodHead).Handler(withoutBody(jump))
	}
	m.Path(root+gateway.Moodle.LandPath()).Methods(http.MethodGet, http.MethodHead).Handler(withoutBody(h.land(site)))
	m.Path(root + sp.SwitchPath).Handler(form(site, h.switchAccount(site)))
	if site.Bounces != nil {
		m.Path(root+sp.HomePath).Methods(http.MethodGet, http.MethodHead).Handler(withoutBody(h.askHome(site)))
		m.Path(root + sp.HomePath).Methods(http.MethodPost).Handler(form(site, h.chooseHome(site)))
	}
	m.Path(root+linkPath).Methods(http.MethodGet, http.MethodHead).Handler(withoutBody(craftLink(site)))
	if site.IDP != nil && site.IDP.OpenID != nil {
		m.Path(root+idp.CallbackPath).Methods(http.MethodGet, http.MethodHead).Handler(withoutBody(h.callback(site)))
	}
	if site.IDP != nil {
		m.Path(root + idp.ConfirmPath).Handler(form(site, h.confirm(site)))
	}
	route := func(path string, methods []string, next http.Handler) {
		m.Path(root + path).Methods(methods...).Handler(next)
	}
	if site.Landings != nil && site.Landings.App != nil {
		h.application(site, route)
	}
	if site.Provider != nil {
		h.provider(site, route)
	}
	home := site.Wwwroot.String()
	if site.RPC != nil {
		endpoint := called(site.RPC)
		if site.Guard == nil { // else it is Moodle that answers
			endpoint, key = guarded(endpoint), guarded(key)
		}
		m.Path(root + gateway.Moodle.RPCPath()).Handler(endpoint)
		m.Path(root + publicKeyPath).Handler(withoutBody(key))
	} else {
		for _, p := range []string{gateway.Moodle.RPCPath(), publicKeyPath} {
			m.Path(root + p).Handler(withoutBody(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				writeProblem(w, r, mnetOff, home, nil)
			})))
		}
	}
	m.NotFoundHandler = withoutBody(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, r, noSuchPage, home, nil)
	}))
	m.MethodNotAllowedHandler = withoutBody(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", "GET, HEAD")
		writeProblem(w, r, wrongMethod, home, nil)
	}))
	return h.sameOrigin(site, m, root+gateway.Moodle.RPCPath())
}

func (h *Handler) jump(site *Site) http.HandlerFunc {
	if site.IDP == nil {
		return noJumps(site)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		h.answer(w, r, site, "jump", site.IDP.Jump(w, r), start)
	}
}

// forgot answers browsers that keep no cookies, and reports false if there is
// nothing to answer.
func (h *Handler) forgot(w http.ResponseWriter, r *http.Request, site *Site) bool {
	start := time.Now()
	a, ok := site.IDP.Forgot(r)
	return ok && h.answer(w, r, site, "login", a, start)
}

// callback takes up the jumps of learners who come back from an OpenID
// provider.
func (h *Handler) callback(site *Site) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		h.answer(w, r, site, "callback", site.IDP.Callback(w, r), start)
	}
}
