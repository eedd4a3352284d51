package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
)

const (
	// PeerSessionRecent is how long an MNet session is remembered after it
	// has ended.
	PeerSessionRecent = 24 * time.Hour
	// PeerSessionMax is how long after its start a session is extended to at
	// most, however often a peer asks.
	PeerSessionMax = 30 * 24 * time.Hour

	maxPeerSessions = 64  // of one learner; the oldest makes room for the newest
	maxUsername     = 255 // bytes; Moodle allows 100 characters
	maxExtended     = 50  // learners in one script, during which Redis does nothing else
)

// PeerSession is a learner's session at a peer: Moodle's row of mnet_session
// on the side of the identity provider (protocol page, section 7). There is
// one for each learner, peer and browser.
type PeerSession struct {
	Username  string
	UserID    int64
	Peer      gateway.Wwwroot
	UserAgent string    // hexadecimal SHA-1 of the browser's User-Agent header
	Home      string    // what Grant.Home was
	Started   time.Time // in UTC, as the others
	Expires   time.Time
	Ended     time.Time // zero if it was not ended before it expired
}

// Live reports whether the session has neither ended nor expired.
func (p PeerSession) Live(now time.Time) bool { return p.Ended.IsZero() && now.Before(p.Expires) }

// recent reports whether it has at most PeerSessionRecent ago, or lives.
func (p PeerSession) recent(now time.Time) bool {
	over := p.Expires
	if !p.Ended.IsZero() {
		over = p.Ended
	}
	return now.Before(over.Add(PeerSessionRecent))
}

func (s *Site) learnerKey(username string) string { return s.key(kindLearner, username) }

func peerField(peer gateway.Wwwroot, userAgent string) string { return peer.String() + " " + userAgent }

// PeerSessions returns the sessions of a learner that live or ended lately,
// the newest first. One round trip.
func (s *Site) PeerSessions(ctx context.Context, username string) ([]PeerSession, error) {
	if len(username) > maxUsername {
		return nil, nil
	}
	fields, err := s.r.client.HGetAll(ctx, s.learnerKey(username)).Result()
	if err != nil {
		return nil, fail("read peer sessions", err)
	}
	var all []PeerSession
	now := s.r.now()
	for field, value := range fields {
		p, err := parsePeerSession(username, field, value)
		if err != nil {
			return nil, err
		}
		if p.recent(now) {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b PeerSession) int { return b.Started.Compare(a.Started) })
	return all, nil
}

// SessionAt reports whether a learner has a live session at peer, and whether
// there is one that lives or did so at most PeerSessionRecent ago. One round
// trip.
func (s *Site) SessionAt(ctx context.Context, peer gateway.Wwwroot, username string) (live, recent bool, err error) {
	all, err := s.PeerSessions(ctx, username)
	for _, p := range all {
		if p.Peer == peer {
			live, recent = live || p.Live(s.r.now()), true
		}
	}
	return live, recent, err
}

// LandedAgain reports whether a session that was ended has a successor: a live
// one of the same learner, peer and browser. One round trip.
func (s *Site) LandedAgain(ctx context.Context, ended PeerSession) (bool, error) {
	all, err := s.PeerSessions(ctx, ended.Username)
	return slices.ContainsFunc(all, func(p PeerSession) bool {
		return p.Peer == ended.Peer && p.UserAgent == ended.UserAgent && p.Live(s.r.now())
	}), err
}

// Extended is what became of the learners named to ExtendPeerSessions.
type Extended struct {
	Live    []PeerSession // that were extended, if they were asked for
	Lapsed  []string      // learners whose sessions at the peer ended lately
	Unknown []string      // learners who had none there
}

// ExtendPeerSessions gives the live sessions that learners have at peer a new
// life, counted from now, but none beyond PeerSessionMax. It returns them if
// records says so. A learner who is named often counts once, where they are
// named first. One round trip for each 50 learners.
func (s *Site) ExtendPeerSessions(ctx context.Context, peer gateway.Wwwroot, usernames []string, life time.Duration, records bool) (Extended, error) {
	var e Extended
	var different []string
	seen := map[string]bool{}
	for _, name := range usernames {
		if !seen[name] {
			seen[name], different = true, append(different, name)
		}
	}
	for chunk := range slices.Chunk(different, maxExtended) {
		if err := s.extend(ctx, &e, peer, chunk, life, records); err != nil {
			return Extended{}, err
		}
	}
	return e, nil
}

func (s *Site) extend(ctx context.Context, e *Extended, peer gateway.Wwwroot, usernames []string, life time.Duration, records bool) error {
	keys := make([]string, len(usernames))
	for i, name := range usernames {
		if len(name) > maxUsername {
			name = "" // nobody's either
		}
		keys[i] = s.learnerKey(name)
	}
	now := s.r.now()
	answers, err := scriptExtend.Run(ctx, s.r.client, keys,
		micros(now), micros(now.Add(life)), (life + PeerSessionRecent).Milliseconds(), micros(now.Add(-PeerSessionRecent)),
		peerField(peer, ""), s.key(kindHome, ""), PeerSessionMax.Microseconds(), records).Slice()
	if err != nil {
		return fail("extend peer sessions", err)
	}
	for i, answer := range answers {
		switch answer := answer.(type) {
		case []any:
			live, err := parsePeerSessions(usernames[i], answer)
			if err != nil {
				return err
			}
			e.Live = append(e.Live, live...)
		case int64:
			switch answer {
			case 0:
				e.Unknown = append(e.Unknown, usernames[i])
			case 1:
				e.Lapsed = append(e.Lapsed, usernames[i])
			}
		}
	}
	return nil
}

// ListPeerSessions returns the live sessions of up to limit learners, and
// whether there are more. It walks over all keys of the Redis.
func (s *Site) ListPeerSessions(ctx context.Context, limit int) (all []PeerSession, more bool, err error) {
	more, err = s.each(ctx, kindLearner, limit, func(username string) error {
		sessions, err := s.PeerSessions(ctx, username)
		now := s.r.now()
		all = append(all, slices.DeleteFunc(sessions, func(p PeerSession) bool { return !p.Live(now) })...)
		return err
	})
	return all, more, err
}

// each calls do with what follows the kind in the keys of up to limit things, and
// reports whether there are more. It walks over all keys of the Redis.
func (s *Site) each(ctx context.Context, kind string, limit int, do func(rest string) error) (more bool, err error) {
	prefix := s.key(kind, "")
	node, err := s.node(ctx, prefix)
	if err != nil {
		return false, fail("walk over keys", err)
	}
	seen := map[string]bool{} // SCAN may show a key twice
	keys := node.Scan(ctx, 0, globEscaper.Replace(prefix)+"*", 1000).Iterator()
	for keys.Next(ctx) {
		rest := strings.TrimPrefix(keys.Val(), prefix)
		if seen[rest] {
			continue
		}
		if len(seen) == limit {
			return true, nil
		}
		seen[rest] = true
		if err := do(rest); err != nil {
			return false, err
		}
	}
	return false, fail("walk over keys", keys.Err())
}

// globEscaper makes a wwwroot with an IPv6 address match nothing but itself.
var globEscaper = strings.NewReplacer(`\`, `\\`, `[`, `\[`, `]`, `\]`, `*`, `\*`, `?`, `\?`)

// node returns the server that has a key: in a Cluster each walks over its own
// keys alone.
func (s *Site) node(ctx context.Context, key string) (redis.Cmdable, error) {
	if cluster, ok := s.r.client.(*redis.ClusterClient); ok {
		return cluster.MasterForKey(ctx, key)
	}
	return s.r.client, nil
}

// HomeHash stands for a Moodle session without telling its id; see Grant.
func HomeHash(moodleSessionID string) string { return hash(moodleSessionID) }

// parsePeerSessions reads fields and values in turn, as scripts answer them.
func parsePeerSessions(username string, answer []any) ([]PeerSession, error) {
	var all []PeerSession
	for pair := range slices.Chunk(answer, 2) {
		if len(pair) < 2 {
			break
		}
		field, _ := pair[0].(string)
		value, _ := pair[1].(string)
		p, err := parsePeerSession(username, field, value)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// parsePeerSession reads a record: started, expires, ended (µs), who ended it,
// user id, hash of the Moodle session, and that sealed, with blanks between.
// The field is the peer, a blank and the browser.
func parsePeerSession(username, field, value string) (PeerSession, error) {
	errMalformed := errors.New("record of a peer session is malformed")
	peer, userAgent, _ := strings.Cut(field, " ")
	parts := strings.Split(value, " ")
	w, err := gateway.ParseWwwroot(peer)
	if err != nil || len(parts) != 7 {
		return PeerSession{}, errMalformed
	}
	var n [5]int64
	for _, i := range []int{0, 1, 2, 4} {
		if n[i], err = strconv.ParseInt(parts[i], 10, 64); err != nil {
			return PeerSession{}, errMalformed
		}
	}
	p := PeerSession{
		Username: username, UserID: n[4], Peer: w, UserAgent: userAgent, Home: parts[6],
		Started: time.UnixMicro(n[0]).UTC(), Expires: time.UnixMicro(n[1]).UTC(),
	}
	if n[2] != 0 {
		p.Ended = time.UnixMicro(n[2]).UTC()
	}
	return p, nil
}

// checkHome refuses a grant from which a record could not be made.
func (g Grant) checkHome() error {
	switch {
	case len(g.User.Username) > maxUsername || g.User.Username == "":
		return fmt.Errorf("grant: username is empty or longer than %d bytes", maxUsername)
	case strings.ContainsAny(g.Home+g.HomeHash+g.UserAgent, " \n") || g.HomeHash == "":
		return errors.New("grant: home, its hash or useragent has a blank, or there is no hash")
	}
	return nil
}
