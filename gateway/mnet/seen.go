package mnet

import "sync"

// seenAnswers is how many answers a Client remembers at least, at most twice
// as many: at 32 bytes each, more than peers could give in the 5 minutes in
// which an answer stays fresh, short of a hundred calls a second.
const seenAnswers = 1 << 15

// seen remembers the messages that were accepted last. It goes by number, not
// by time: a message's timestamp is not signed, and whoever replays it can
// write a new one over it. The zero seen is empty.
type seen struct {
	mu            sync.Mutex
	recent, older map[[32]byte]struct{}
}

// add notes a message and reports whether it was not there yet.
func (s *seen) add(nonce [32]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, recent := s.recent[nonce]
	_, older := s.older[nonce]
	if recent || older {
		return false
	}
	if s.recent == nil || len(s.recent) == seenAnswers {
		s.recent, s.older = map[[32]byte]struct{}{}, s.recent
	}
	s.recent[nonce] = struct{}{}
	return true
}
