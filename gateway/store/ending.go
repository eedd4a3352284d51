package store

import (
	"context"
	"time"

	"jumpgate/gateway"
)

// endedKept is how long it is remembered that a session or all of a learner's
// ended: longer than a token from before can be redeemed.
const endedKept = 2 * TokenLife

// EndPeerSessions ends a learner's sessions at all peers: those of one
// browser, or of all if userAgent is empty. Then tokens that the learner has are
// no longer good either, and sessions that ended before and of which the peer
// was not Told are ended once more. It returns those that it ended; of two
// callers at once each live one is returned to one. One round trip.
func (s *Site) EndPeerSessions(ctx context.Context, username, userAgent string) ([]PeerSession, error) {
	keys, untold := []string{s.learnerKey(username)}, int64(0)
	if userAgent == "" {
		keys = append(keys, s.key(kindEnded, endedUser+username))
		untold = micros(s.r.now().Add(-PeerSessionRecent))
	}
	return s.endPeerSessions(ctx, keys, username, userAgent, "", untold)
}

// EndPeerSessionsFor is EndPeerSessions at the wish of a peer: it ends nothing
// unless the learner has a live session there, in the browser named.
func (s *Site) EndPeerSessionsFor(ctx context.Context, peer gateway.Wwwroot, username, userAgent string) ([]PeerSession, error) {
	if userAgent == "" {
		return nil, nil
	}
	return s.endPeerSessions(ctx, []string{s.learnerKey(username)}, username, userAgent, peerField(peer, userAgent), 0)
}

func (s *Site) endPeerSessions(ctx context.Context, keys []string, username, userAgent, needs string, untold int64) ([]PeerSession, error) {
	if len(username) > maxUsername {
		return nil, nil
	}
	return s.runEnd(ctx, s.newEnding(), keys, username, userAgent, needs, untold)
}

// Told notes that the peer of a session that was ended knows of it no more. One
// round trip.
func (s *Site) Told(ctx context.Context, p PeerSession) error {
	return fail("note the end of a session", scriptTold.Run(ctx, s.r.client, []string{s.learnerKey(p.Username)},
		peerField(p.Peer, p.UserAgent), micros(p.Started)).Err())
}

// Ending is an end of sessions: one thing, however often Redis has to be told.
type Ending struct {
	at   time.Time
	by   string
	home string // hash of the Moodle session, if it is one that ended
}

func (s *Site) newEnding() Ending { return Ending{at: s.r.now(), by: random(12)} }

// Ending is the end, now, of a session of Moodle's.
func (s *Site) Ending(moodleSessionID string) Ending {
	e := s.newEnding()
	e.home = HomeHash(moodleSessionID)
	return e
}

// EndHomeSession ends the sessions at all peers that belong to a session of
// Moodle's which is over, as a logout there does: those of its learner and
// browser, but for what began there since. It returns those that were live, of
// which two endings at once get each once. Tokens that were minted from it are
// no longer good. One round trip.
func (s *Site) EndHomeSession(ctx context.Context, e Ending) ([]PeerSession, error) {
	return s.runEnd(ctx, e, []string{s.key(kindHome, e.home), s.key(kindEnded, e.home)}, e.home, s.key(kindLearner, ""))
}

func (s *Site) runEnd(ctx context.Context, e Ending, keys []string, args ...any) ([]PeerSession, error) {
	answer, err := scriptEndPeers.Run(ctx, s.r.client, keys, append([]any{micros(e.at), e.by, endedKept.Milliseconds()}, args...)...).Slice()
	if err != nil || len(answer) == 0 {
		return nil, fail("end peer sessions", err)
	}
	username, _ := answer[0].(string)
	return parsePeerSessions(username, answer[1:])
}
