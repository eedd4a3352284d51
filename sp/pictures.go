package sp

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
)

const (
	fetchUserImage = "auth/mnet/auth.php/fetch_user_image"

	maxVersion = 64        // of a picture, in characters: a time, or a hash
	maxPicture = 256 << 10 // bytes of what a home calls a picture: several times what 100 by 100 pixels need
)

// Pictures takes up pictures of learners from their homes, in the background
// after a landing: a picture that its home calls otherwise than the last one.
type Pictures struct {
	Store  *store.Site
	Set    func(ctx context.Context, userID int64, picture []byte) error // moodle.Web.SetPicture, with a token
	Taking *Learning

	// Failed is told why a picture was not taken; but not again and again, as long
	// as nothing else goes wrong and none is taken. A later landing tries again,
	// unless the picture is none.
	Failed func(home *gateway.Peer, err error)

	mu    sync.Mutex
	wrong string // what Failed was told last
}

// pictureVersion returns what a home calls the picture of a learner: a Moodle
// tells when it was made, a Mahara its hash (protocol page, section 6). It is
// empty for none.
func pictureVersion(text func(field string) string) string {
	for _, field := range []string{"_mnet_userpicture_timemodified", "imagehash"} {
		if version := text(field); version != "" && version != "0" && legible(version, maxVersion) {
			return version
		}
	}
	return ""
}

// TakePicture takes up the picture of an account that somebody was logged in to,
// if it is another one than the last. Nobody waits for it, and what does not get
// its turn has it after a later landing.
func (l *Landings) TakePicture(a Arrival) {
	if l.Logins == nil || l.Logins.Pictures == nil || a.account.ID == 0 || a.account.Picture == "" || a.Refused || a.Err != nil {
		return
	}
	p := l.Logins.Pictures
	p.Taking.start(func(ctx context.Context) error { return l.takePicture(ctx, a) }, func(err error) {
		if p.is(a.Home.Wwwroot.String() + " " + err.Error()) {
			p.Failed(a.Home, err)
		}
	})
}

// is notes what is wrong, "" for nothing, and reports whether that is new.
func (p *Pictures) is(wrong string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed := wrong != p.wrong
	p.wrong = wrong
	return changed
}

// takePicture asks the home for a picture and gives it to Moodle. What is no
// picture is not asked for again until the home has another one; and one that is
// the same under another name is not given to Moodle again, where the learner may
// have chosen one of their own since.
func (l *Landings) takePicture(ctx context.Context, a Arrival) error {
	p, account := l.Logins.Pictures, a.account.Username
	had, err := p.Store.TakenPicture(ctx, account)
	now := store.TakenPicture{Version: a.Home.Wwwroot.String() + " " + a.account.Picture, Digest: had.Digest}
	if err != nil || had.Version == now.Version {
		return err
	}
	told, err := l.Logins.Call(ctx, a.Home, fetchUserImage, a.learner)
	if err != nil {
		return fmt.Errorf("the home does not tell it: %w", err)
	}
	picture, err := pictureOf(told)
	switch {
	case err != nil:
		return errors.Join(err, p.Store.TakePicture(ctx, account, now))
	case picture == nil: // it is gone by now, or could not be read there
		return nil
	}
	sum := sha256.Sum256(picture)
	if now.Digest = hex.EncodeToString(sum[:]); now.Digest != had.Digest {
		if err := p.Set(ctx, a.account.ID, picture); err != nil {
			return err
		}
		p.is("")
	}
	return p.Store.TakePicture(ctx, account, now)
}

// pictureOf returns the picture in an answer of fetch_user_image (protocol page,
// section 5.3), drawn anew, or nil if there is none. What type the home says it
// has plays no role.
func pictureOf(told mnet.Value) ([]byte, error) {
	fields, _ := mnet.Map(told)
	large, _ := fields.Get("f1")
	text := strings.TrimSpace(mnet.Text(large))
	switch {
	case text == "":
		return nil, nil
	case base64.StdEncoding.DecodedLen(len(text)) > maxPicture:
		return nil, fmt.Errorf("what the home calls a picture has more than %d bytes", maxPicture)
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("what the home calls a picture is not base64")
	}
	picture, err := redraw(data)
	if err != nil {
		return nil, fmt.Errorf("what the home calls a picture is none: %w", err)
	}
	return picture, nil
}
