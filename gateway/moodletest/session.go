package moodletest

import (
	"crypto/rand"
	"fmt"
	"math/big"
	"strconv"
	"time"
)

// session is a PHP session with the record that Moodle keeps beside it.
type session struct {
	sid      string
	userID   int64 // of the hash: the administrator during "log in as"
	created  int64 // Unix seconds, as are all times here
	modified int64
	firstIP  string
	lastIP   string
	vars     phpArray // REALSESSION, SESSION, REALUSER, USER, in PHP's order

	anonymousFirst bool // nobody's first request: Moodle keeps those for three minutes
}

// Ids that every Moodle has.
const (
	guestID     = 1
	firstUserID = 2 // the administrator
	localHostID = 1
)

// newSession returns an empty session of nobody (init_empty_session).
func newSession(now time.Time, ip string) *session {
	s := &session{
		sid: randomText(26, sidAlphabet), created: now.Unix(), modified: now.Unix(),
		firstIP: ip, lastIP: ip, anonymousFirst: true,
	}
	s.vars.set("USER", newObject("id", int64(0), "mnethostid", strconv.Itoa(localHostID)))
	s.vars.set("SESSION", newObject())
	return s
}

func (s *session) object(name string) *phpObject {
	o, ok := s.vars.get(name).(*phpObject)
	if !ok {
		o = newObject()
		s.vars.set(name, o)
	}
	return o
}

// user is PHP's $USER.
func (s *session) user() *phpObject { return s.object("USER") }

// data is PHP's $SESSION.
func (s *session) data() *phpObject { return s.object("SESSION") }

// currentID is $USER->id: during "log in as" the one who is worn.
func (s *session) currentID() int64 {
	id, _ := strconv.ParseInt(s.user().text("id"), 10, 64)
	return id
}

func (s *session) loggedIn() bool { return s.currentID() > 0 }

func (s *session) guest() bool { return s.currentID() == guestID }

func (s *session) loginAs() bool { return s.vars.get("REALUSER") != nil }

// sesskey returns the session's key against forged requests, made on first use.
func (s *session) sesskey() string {
	if s.user().text("sesskey") == "" {
		s.user().set("sesskey", randomText(10, tokenAlphabet))
	}
	return s.user().text("sesskey")
}

// regenerate gives the session a new id and start, as PHP's
// session_regenerate_id and Moodle's add_session do at a login.
func (s *session) regenerate(now time.Time, userID int64) {
	s.sid = randomText(26, sidAlphabet)
	s.userID, s.created, s.modified, s.anonymousFirst = userID, now.Unix(), now.Unix(), userID == 0
}

// touch does what Moodle does on each request after the first: it notes the
// time, at most every 20 seconds, and the address.
func (s *session) touch(now time.Time, ip string) {
	s.lastIP = ip
	if s.modified == s.created || s.modified < now.Unix()-20 {
		s.modified = now.Unix()
	}
}

// noteNavigation keeps what Moodle's navigation cache keeps in each session:
// of no use to us, but a reader of sessions must cope with it.
func (s *session) noteNavigation(now time.Time) {
	key := fmt.Sprintf("__lastaccess__u%d_%s", s.currentID(), s.sid)
	times := newArray(int64(0), now.Unix(), int64(1), now.Unix())
	s.data().set("cachestore_session", newArray("default_session-core/navigation_cache", newArray(key, times)))
}

// lifetime is how long Redis keeps the session.
func (s *session) lifetime(timeout time.Duration) time.Duration {
	switch {
	case s.userID == guestID:
		return 5 * timeout
	case s.userID == 0 && s.anonymousFirst:
		return 3 * time.Minute
	}
	return timeout + 80*time.Second
}

// timedOut follows Moodle in sparing guests and people who are not logged in.
func (s *session) timedOut(now time.Time, timeout time.Duration) bool {
	return s.userID > guestID && s.modified < now.Add(-timeout).Unix()
}

const (
	sidAlphabet   = "0123456789abcdefghijklmnopqrstuv" // PHP's, with 5 bits per character
	tokenAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	hexAlphabet   = "0123456789abcdef"
)

// randomText returns n characters of alphabet, each equally likely.
func randomText(n int, alphabet string) string {
	b := make([]byte, n)
	size := big.NewInt(int64(len(alphabet)))
	for i := range b {
		k, _ := rand.Int(rand.Reader, size) // crypto/rand does not fail
		b[i] = alphabet[k.Int64()]
	}
	return string(b)
}
