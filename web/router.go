package web

import (
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"jumpgate/gateway"
)

const publicKeyPath = "/mnet/publickey.php"

// ourPaths are the addresses below a wwwroot that never reach the Moodle
// behind, in any spelling that a web server there would take for them.
var ourPaths = []string{
	gateway.Moodle.JumpPath(),
	gateway.Moodle.RPCPath(),
	publicKeyPath,
}

// ours reports whether a path means one of ours. PHP takes further segments
// (jump.php/x), web servers merge slashes, and some file systems ignore case,
// so all of these are ours too, to be refused.
func ours(root gateway.Wwwroot, requested string) bool {
	if !containsFold(requested, "mnet") {
		return false // nearly everything: no allocation
	}
	cleaned := strings.ToLower(path.Clean("/" + requested))
	below, ok := strings.CutPrefix(cleaned, strings.ToLower(root.Path()))
	if !ok {
		return false
	}
	for _, p := range ourPaths {
		if rest, ok := strings.CutPrefix(below, p); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
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
func (h *Handler) router(site *Site) http.Handler {
	root := site.Wwwroot.Path()
	m := mux.NewRouter().SkipClean(true)
	m.Path(root+gateway.Moodle.JumpPath()).Methods(http.MethodGet, http.MethodHead).HandlerFunc(h.jump(site))
	m.Path(root + gateway.Moodle.RPCPath()).Handler(site.RPC)
	m.Path(root + publicKeyPath).Handler(site.PublicKey)
	home := site.Wwwroot.String()
	m.NotFoundHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, r, noSuchPage, home, nil)
	})
	m.MethodNotAllowedHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", "GET, HEAD")
		writeProblem(w, r, wrongMethod, home, nil)
	})
	return m
}

func (h *Handler) jump(site *Site) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		h.answer(w, r, site, "jump", site.IDP.Jump(w, r), start)
	}
}
