package sp

import (
	"bytes"
	"fmt"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"net/http"
)

// maxPictureSide is the width and height of a picture at most, in pixels: what
// Moodle makes of the largest.
const maxPictureSide = 512

// formats are those that a Moodle makes a user's picture of (source:
// process_new_icon in lib/gdlib.php), as browsers tell them apart.
var formats = map[string]struct {
	size   func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
}{
	"image/png":  {png.DecodeConfig, png.Decode},
	"image/jpeg": {jpeg.DecodeConfig, jpeg.Decode},
	"image/gif":  {gif.DecodeConfig, gif.Decode},
}

// redraw returns a picture as a PNG of ours: nothing but its pixels is left, be it
// where it was taken, a script, or what another decoder stumbles over. How large
// it is is known before its pixels take any memory.
func redraw(data []byte) ([]byte, error) {
	kind := http.DetectContentType(data)
	format, ok := formats[kind]
	if !ok {
		return nil, fmt.Errorf("it is %s", kind)
	}
	size, err := format.size(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if size.Width < 1 || size.Height < 1 || size.Width > maxPictureSide || size.Height > maxPictureSide {
		return nil, fmt.Errorf("it has %d by %d pixels, and the most is %d", size.Width, size.Height, maxPictureSide)
	}
	picture, err := format.decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	var drawn bytes.Buffer
	if err := png.Encode(&drawn, picture); err != nil {
		return nil, err
	}
	return drawn.Bytes(), nil
}
