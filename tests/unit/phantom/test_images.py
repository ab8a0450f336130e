import numpy as np
import tifffile


def test_images_are_coded_as_a_bundle_codes_them(slide):
    with tifffile.TiffFile(slide.outs / "morphology_focus" / "morphology_focus_0000.ome.tif") as dapi:
        page = dapi.pages[0]
        assert (dapi.is_bigtiff, dapi.is_ome, page.compression, page.dtype, page.tile) == (True, True, 34712, np.uint16, (1024, 1024))
        assert [level.shape[0] for level in dapi.series[0].levels] == [page.shape[0] >> level for level in range(5)]
        assert 'PhysicalSizeX="0.2125"' in dapi.ome_metadata
    with tifffile.TiffFile(slide.folder / "x_he_image.ome.tif") as he:
        assert (he.series[0].axes, he.pages[0].compression, he.pages[0].photometric, len(he.series[0].levels)) == ("YXS", 7, 6, 5)
        assert 'PhysicalSizeX="0.2125"' in he.ome_metadata
