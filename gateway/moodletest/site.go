package moodletest

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
)

// Sessions says where a site keeps its PHP sessions.
type Sessions struct {
	// Redis holds them as Moodle's \core\session\redis does; nil keeps them
	// in memory, where nobody else can read them.
	Redis  redis.UniversalClient
	Prefix string // $CFG->session_redis_prefix
	Gzip   bool   // $CFG->session_redis_compressor = 'gzip'

	// Timeout is $CFG->sessiontimeout; 0 means Moodle's eight hours.
	Timeout time.Duration
}

// site is what both stand-ins share: a Moodle with accounts and sessions.
type site struct {
	wwwroot gateway.Wwwroot
	title   string
	kind    string // "home" or "forum": decides how the pages look
	suffix  string // $CFG->sessioncookie
	now     func() time.Time
	client  *http.Client
	users   *users
	store   sessionStore
	gzip    bool
	timeout time.Duration
	mfaCode string
	mux     *http.ServeMux
	mnet    *mnetSite // nil for a site without MNet
	endpoint

	token      string  // of web services
	drafts     drafts  // of its user
	shibboleth bool    // auth_shibboleth is enabled and set up
	oauth2     *oauth2 // auth_oauth2 is, if it is not nil

	seed  maphash.Seed
	locks [64]sync.Mutex // Moodle lets one request at a time have a session
}

func (st *site) init(sessions Sessions) {
	if st.now == nil {
		st.now = time.Now
	}
	if st.client == nil {
		st.client = &http.Client{Timeout: 30 * time.Second}
	}
	st.gzip, st.timeout = sessions.Gzip, cmp.Or(sessions.Timeout, 8*time.Hour)
	st.store = newMemorySessions(st.now)
	if sessions.Redis != nil {
		st.store = redisSessions{sessions.Redis, sessions.Prefix}
	}
	st.mux = http.NewServeMux()
	st.seed = maphash.MakeSeed()
}

// ServeHTTP serves the pages below the path of the wwwroot.
func (st *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == st.wwwroot.Path() {
		http.Redirect(w, r, st.url("/"), http.StatusMovedPermanently)
		return
	}
	http.StripPrefix(st.wwwroot.Path(), st.mux).ServeHTTP(w, r)
}

func (st *site) url(path string) string { return st.wwwroot.String() + path }

// page registers a page that takes part in the session.
func (st *site) page(pattern string, serve func(*request)) {
	st.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
		q := &request{site: st, w: w, r: r}
		unlock := q.lockSession()
		defer unlock()
		if !q.openSession() || q.secondFactor() {
			return
		}
		serve(q)
	})
}

// request is one request with the session it belongs to. It is answered once,
// by redirect, render or json, each of which writes the session first.
type request struct {
	*site
	w http.ResponseWriter
	r *http.Request
	s *session

	replaced []replaced // sessions that this request ended
	cookie   bool       // the browser must be told its session id
	cookies  []string   // further Set-Cookie headers
}

type replaced struct {
	sid    string
	userID int64
}

func (st *site) cookieName() string { return "MoodleSession" + st.suffix }

func (q *request) sentSID() string {
	c, err := q.r.Cookie(q.cookieName())
	if err != nil || len(c.Value) > 256 || strings.Trim(c.Value, tokenAlphabet+",-") != "" {
		return ""
	}
	return c.Value
}

// lockSession waits until no other request has the session. Locks are shared
// by sessions of the same hash, which costs nothing but time.
func (q *request) lockSession() (unlock func()) {
	mu := &q.locks[maphash.String(q.seed, q.sentSID())%uint64(len(q.locks))]
	if q.sentSID() == "" {
		mu = new(sync.Mutex)
	}
	mu.Lock()
	return mu.Unlock
}

// openSession finds the session of the request's cookie or begins one; an id
// that Moodle does not know is never taken over.
func (q *request) openSession() bool {
	sid, now := q.sentSID(), q.now()
	if sid != "" {
		fields, err := q.store.load(q.r.Context(), sid)
		if err != nil {
			q.unavailable()
			return false
		}
		if fields != nil {
			q.s, err = decodeSession(sid, fields)
		}
		if err == nil && q.s != nil && q.s.vars.get("USER") != nil && !q.s.timedOut(now, q.timeout) {
			q.s.touch(now, q.ip())
			return true
		}
		if q.s != nil {
			q.replaced = append(q.replaced, replaced{sid, q.s.userID})
		}
	}
	q.s, q.cookie = newSession(now, q.ip()), true
	if _, err := q.r.Cookie(q.cookieName()); err == nil {
		q.s.data().set("has_timed_out", true)
	} else {
		q.s.data().set("isnewsessioncookie", true)
	}
	return true
}

// ip is the address that Moodle would note.
func (q *request) ip() string {
	host, _, err := net.SplitHostPort(q.r.RemoteAddr)
	if err != nil {
		return "0.0.0.0"
	}
	return host
}

// changeSID ends the session's key and gives its content to a new one.
func (q *request) changeSID(userID int64) {
	q.replaced = append(q.replaced, replaced{q.s.sid, q.s.userID})
	q.s.regenerate(q.now(), userID)
	q.cookie = true
}

// logout leaves an empty session of nobody (require_logout).
func (q *request) logout() {
	q.replaced = append(q.replaced, replaced{q.s.sid, q.s.userID})
	q.s, q.cookie = newSession(q.now(), q.ip()), true
}

// finish writes the session and the cookie. When it returns true the new key
// is complete, the old ones are gone and the answer may be sent.
func (q *request) finish() bool {
	ctx := context.WithoutCancel(q.r.Context())
	for _, old := range q.replaced {
		if err := q.store.destroy(ctx, old.sid, old.userID); err != nil {
			q.unavailable()
			return false
		}
	}
	if err := q.store.save(ctx, q.s, encodeSession(q.s, q.gzip), q.s.lifetime(q.timeout)); err != nil {
		q.unavailable()
		return false
	}
	if q.cookie {
		q.w.Header().Add("Set-Cookie", q.formatCookie(q.cookieName(), q.s.sid, ""))
	}
	for _, c := range q.cookies {
		q.w.Header().Add("Set-Cookie", c)
	}
	return true
}

// formatCookie gives a cookie the attributes that Moodle gives its own.
func (st *site) formatCookie(name, value, extra string) string {
	secure := ""
	if st.wwwroot.Scheme() == "https" {
		secure = "; secure; SameSite=None"
	}
	return fmt.Sprintf("%s=%s%s; path=%s/%s; HttpOnly", name, value, extra, st.wwwroot.Path(), secure)
}

// requireLogin sends people who are not logged in to the login page and
// remembers where they wanted to go. It reports whether the page may go on.
func (q *request) requireLogin() bool {
	if q.s.loggedIn() && !q.s.guest() {
		return true
	}
	q.s.data().set("wantsurl", q.wwwroot.Origin()+q.wwwroot.Path()+q.r.URL.RequestURI())
	q.redirect(q.url("/login/index.php"))
	return false
}

// confirmSesskey reports whether the request carries the session's key.
func (q *request) confirmSesskey() bool {
	return q.s.user().text("sesskey") != "" && q.r.FormValue("sesskey") == q.s.sesskey()
}

// localURL reports whether target is a page of this site (PARAM_LOCALURL for
// absolute URLs), so that the stand-in itself is no open redirect.
func (st *site) localURL(target string) bool {
	u, err := url.Parse(target)
	if err != nil {
		return false
	}
	return u.Scheme+"://"+u.Host == st.wwwroot.Origin() && strings.HasPrefix(u.Path, st.wwwroot.Path()+"/")
}
