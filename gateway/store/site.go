package store

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"jumpgate/gateway"
)

// Site is the part of Redis that belongs to one site.
type Site struct {
	r      *Redis
	prefix string
}

// Site returns the state of the site w. Its keys share one hash tag.
func (r *Redis) Site(w gateway.Wwwroot) *Site {
	return &Site{r: r, prefix: "jumpgate:{" + w.String() + "}:"}
}

// The kinds of keys of a site.
const (
	kindToken   = "token:"   // + hash of the token: a Grant
	kindNonce   = "nonce:"   // + nonce: seen
	kindSession = "session:" // + hash of the cookie's value: hash of fields
	kindNew     = "new"      // sorted set: sessions by the time they end
	kindNewFrom = "new:"     // + client address: the same for one address
	kindRequest = "requests" // hash: hash of wwwroot and certificate: a Request
	kindCache   = "cache:"   // + name and key of a Cache
	kindLearner = "mnet:"    // + username: hash of PeerSessions
	kindHome    = "home:"    // + hash of a Moodle session: browser and username
	kindEnded   = "ended:"   // + hash of a Moodle session, or endedUser and username: when that ended
	kindCourses = "courses:" // + username: hash of reports by peer
	kindPeerLog = "log:"     // + peer: list of LogRecords
	kindPicture = "picture:" // + username: user id, revision of the picture and when it was first seen
	kindKey     = "key:"     // + agreed, gateways, sealed: the MNet key of the site
	kindChain   = "chain:"   // + wwwroot: refreshes of a peer's key
	kindLogin   = "login:"   // + hash of the cookie's value: a Login
	kindVisits  = "visits:"  // + home and username: hash of Visits by the hash of their session
	kindVisit   = "visit:"   // + hash of a session: home and username
	kindHeld    = "held:"    // + hash of a Moodle session: by how many landings it is held, and whether it is to end
	kindGone    = "gone:"    // + browser, home and username: see Await
	kindBusy    = "busy"     // sorted set: home and username by when they were busy last
	kindTurn    = "turn:"    // + of, last: see Turn
	kindRevoked = "revoked:" // + hash of the id of a signed link
	kindApp     = "app:"     // + hash of the cookie's value: an AppSession
	kindCode    = "code:"    // + hash of an authorization code: what it stands for
	kindAccess  = "access:"  // + hash of an access token: likewise
	kindClaimed = "claimed:" // + hash of a mail address: hash of the subject who lands with it
	kindMail    = "mail:"    // + keyed hash of a mail address: sorted set of wwwroots of homes by time (s)
	kindTaken   = "taken:"   // + account of a visitor: digest and version of the picture that was taken from their home
	// Limits have the rules that refuse as their kinds: "rate-user:" + username,
	// "rate-address:" + network, "rate-peer:" + wwwroot: see rate.lua.
)

const endedUser = "user:" // which no hash begins with

func (s *Site) key(kind, rest string) string { return s.prefix + kind + rest }

// hash is what Redis sees of a secret: 43 characters.
func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// secretLength is the length of tokens and cookie values: 238 random bits, in
// the char(40) column of a peer (protocol page, section 7) without escapes.
const secretLength = 40

// random returns n random characters of the alphabet, each equally likely.
func random(n int) string {
	out := make([]byte, 0, n)
	var buf [64]byte
	for len(out) < n {
		rand.Read(buf[:]) // never fails
		for _, b := range buf {
			// 248 is the largest multiple of 62 in a byte: above it the first
			// characters would come up more often.
			if b < 248 && len(out) < n {
				out = append(out, alphabet[b%62])
			}
		}
	}
	return string(out)
}

// wellFormed reports whether s could be a result of random(n).
func wellFormed(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// micros is how points in time are written for the scripts: as a number that
// fits the 53 bits of Lua's.
func micros(t time.Time) int64 { return t.UnixMicro() }
