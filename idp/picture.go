package idp

import (
	"context"
	"encoding/base64"

	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
)

// fetchUserImage hands out a learner's picture in both sizes, as the Moodle
// behind shows it to everybody: an empty array if there is none or the peer is
// not to be told, false if the caller has nothing to do with the learner.
func (p *Provider) fetchUserImage(ctx context.Context, call *mnet.Call) (mnet.Value, error) {
	username := call.Param(0)
	theirs, err := p.theirs(ctx, call, username)
	if err != nil {
		return nil, err
	}
	if !theirs {
		noteNotTheirs(call, username)
		return false, nil
	}
	known, err := p.Store.PictureOf(ctx, username)
	if err != nil {
		return nil, err
	}
	if known.UserID == 0 || p.Behind == nil || !call.Peer.Exports("picture") {
		return mnet.Array{}, nil
	}
	var answer mnet.Struct
	for _, size := range []string{moodle.PictureLarge, moodle.PictureSmall} {
		picture, ok, err := p.Behind.Picture(ctx, known.UserID, size)
		if err != nil {
			// No fault: for want of a picture a Mahara would not let the
			// learner land.
			call.Note("picture-failed", err)
			ok = false
		}
		if !ok {
			return mnet.Array{}, nil
		}
		answer = append(answer,
			mnet.Member{Name: size, Value: base64.StdEncoding.EncodeToString(picture.Data)},
			mnet.Member{Name: size + "_mimetype", Value: picture.Type})
	}
	return answer, nil
}
